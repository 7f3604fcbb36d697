//! What is on disk is sealed, and rotations need nobody's hands.

use std::path::Path;

use super::*;

const OLD: &str = "b2xkb2xkb2xkb2xkb2xkb2xkb2xkb2xkb2xkb2xkb2w=";
const NEW: &str = "bmV3bmV3bmV3bmV3bmV3bmV3bmV3bmV3bmV3bmV3bmU=";

fn config(providers: &str) -> Encryption {
    parse(providers).unwrap()
}

fn parse(providers: &str) -> Result<Encryption, ConfigError> {
    Encryption::parse(&format!(
        "apiVersion: apiserver.config.k8s.io/v1\nkind: EncryptionConfiguration\nresources:\n- resources: [secrets]\n  providers: {providers}\n"
    ))
}

fn keys(keys: &[(&str, &str)]) -> String {
    let keys: Vec<String> =
        keys.iter().map(|(name, secret)| format!("{{name: {name}, secret: {secret}}}")).collect();
    format!("aesgcm: {{keys: [{}]}}", keys.join(", "))
}

fn secret(name: &str) -> Key {
    Key::new(ResourceKey::new("", "secrets"), "default", name)
}

async fn open(folder: &Path, encryption: Encryption) -> Result<Storage, OpenError> {
    Storage::open(Options { encryption, ..Options::new(folder) }).await
}

async fn write_both(storage: &Storage) {
    storage.write(create("map", "in-the-clear")).await.unwrap();
    let write = Write::Create {
        key: secret("password"),
        object: mk_object("password", "hush-hush-hush"),
        within: None,
    };
    storage.write(write).await.unwrap();
}

fn value(storage: &Storage) -> String {
    let bytes = storage.get(&secret("password")).unwrap().bytes.clone();
    serde_json::from_slice::<Value>(&bytes).unwrap()["data"]["k"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn what_the_configuration_names_is_sealed_on_disk_and_read_back() {
    let folder = tempfile::tempdir().unwrap();
    let encryption = config(&format!("[{{{}}}, {{identity: {{}}}}]", keys(&[("new", NEW)])));
    let storage = open(folder.path(), encryption.clone()).await.unwrap();
    write_both(&storage).await;
    assert_eq!(value(&storage), "hush-hush-hush");
    storage.close().await;
    assert!(on_disk(folder.path(), "in-the-clear"));
    assert!(!on_disk(folder.path(), "hush-hush-hush"));
    let storage = open(folder.path(), encryption).await.unwrap();
    assert_eq!(value(&storage), "hush-hush-hush");
}

#[tokio::test]
async fn turned_on_rotated_and_turned_off_everything_is_written_anew_at_the_next_open() {
    let folder = tempfile::tempdir().unwrap();
    let storage = open(folder.path(), Encryption::default()).await.unwrap();
    write_both(&storage).await;
    storage.close().await;
    assert!(on_disk(folder.path(), "hush-hush-hush"));

    let (old, new) = (("old", OLD), ("new", NEW));
    for providers in [
        format!("[{{{}}}, {{identity: {{}}}}]", keys(&[old])),
        format!("[{{{}}}]", keys(&[new, old])),
        // The old key is needed no more.
        format!("[{{{}}}]", keys(&[new])),
    ] {
        let storage = open(folder.path(), config(&providers)).await.unwrap();
        assert_eq!(value(&storage), "hush-hush-hush");
        storage.close().await;
    }
    let storage =
        open(folder.path(), config(&format!("[{{identity: {{}}}}, {{{}}}]", keys(&[new])))).await.unwrap();
    storage.close().await;
    let storage = open(folder.path(), Encryption::default()).await.unwrap();
    assert_eq!(value(&storage), "hush-hush-hush");
}

#[tokio::test]
async fn without_its_key_the_store_does_not_open_and_says_which_it_wants() {
    let folder = tempfile::tempdir().unwrap();
    let storage = open(folder.path(), config(&format!("[{{{}}}]", keys(&[("old", OLD)])))).await.unwrap();
    write_both(&storage).await;
    storage.close().await;
    for encryption in [Encryption::default(), config(&format!("[{{{}}}]", keys(&[("new", NEW)])))] {
        let error = open(folder.path(), encryption).await.err().expect("it cannot be read");
        let text = error.to_string();
        assert!(text.contains("\"old\"") && text.contains("--encryption-provider-config"), "{text}");
    }
    // The same name, another key.
    let error = open(folder.path(), config(&format!("[{{{}}}]", keys(&[("old", NEW)])))).await.err();
    assert!(error.expect("the seal is broken").to_string().contains("seal is broken"));
}

#[test]
fn one_objects_body_cannot_stand_in_for_anothers() {
    let encryption = config(&format!("[{{{}}}]", keys(&[("new", NEW)])));
    let sealed = encryption.seal(&secret("a"), b"{}").into_owned();
    assert_eq!(encryption.open(&secret("a"), &sealed).unwrap(), b"{}");
    assert_eq!(encryption.open(&secret("b"), &sealed), Err(Unreadable::Broken("new".into())));
    for cut in 0..sealed.len() {
        assert!(encryption.open(&secret("a"), &sealed[..cut]).is_err());
    }
}

#[test]
fn what_was_deleted_is_sealed_in_the_trash_where_secrets_are() {
    let encryption = config(&format!("[{{{}}}]", keys(&[("new", NEW)])));
    let trash = ResourceKey::new("federation.rs", "trash");
    assert!(encryption.seals(&trash));
    assert!(!encryption.seals(&ResourceKey::new("", "configmaps")));
}

#[test]
fn an_error_in_the_file_shows_no_key() {
    let text = format!(
        "apiVersion: apiserver.config.k8s.io/v1\nkind: EncryptionConfiguration\nresources:\n- resources: [secrets]\n  providers:\n  - aesgcm:\n      keys:\n      - name: a\n        secert: {NEW}\n"
    );
    let error = Encryption::parse(&text).unwrap_err().to_string();
    assert!(error.contains("secert") && !error.contains(NEW), "{error}");
}

#[test]
fn a_configuration_that_cannot_be_kept_is_refused_by_its_field() {
    for (providers, field) in [
        ("[]".to_owned(), "resources[0].providers"),
        ("[{aescbc: {keys: []}}]".to_owned(), "resources[0].providers[0].aescbc"),
        ("[{}]".to_owned(), "resources[0].providers[0]"),
        ("[{aesgcm: {keys: []}}]".to_owned(), "resources[0].providers[0].aesgcm.keys"),
        (format!("[{{{}}}]", keys(&[("a", "c2hvcnQ=")])), "resources[0].providers[0].aesgcm.keys[0].secret"),
        (
            format!("[{{{}}}]", keys(&[("a", NEW), ("a", OLD)])),
            "resources[0].providers[0].aesgcm.keys[1].name",
        ),
    ] {
        match parse(&providers) {
            Err(ConfigError::Invalid { field: found, .. }) => assert_eq!(found, field, "{providers}"),
            other => panic!("{providers}: {other:?}"),
        }
    }
    let text = "apiVersion: v1\nkind: EncryptionConfiguration\nresources: []\n";
    assert!(Encryption::parse(text).unwrap_err().to_string().contains("apiVersion"));
    let text = "apiVersion: apiserver.config.k8s.io/v1\nkind: EncryptionConfiguration\nresources:\n- resources: ['*']\n  providers: [{identity: {}}]\n";
    assert!(Encryption::parse(text).unwrap_err().to_string().contains("resources[0].resources[0]"));
}
