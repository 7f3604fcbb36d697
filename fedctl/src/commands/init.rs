//! `fedctl init`

use std::path::PathBuf;

use anyhow::Result;
use federation_runtime::pki::{Authority, Subject};

/// Options of `fedctl init`.
#[derive(clap::Args, Debug)]
pub(crate) struct Options {
    /// The federation's data directory.
    #[arg(long, env = "FEDERATION_DATA_DIR", default_value = "federation", value_name = "DIR")]
    data_dir: PathBuf,
    /// Address that the API will listen on, for the kubeconfig.
    #[arg(long, default_value = "127.0.0.1:6443", value_name = "ADDRESS")]
    api_listen: String,
}

pub(crate) fn run(options: &Options) -> Result<()> {
    let pki = options.data_dir.join("pki");
    let authority = Authority::load_or_create(&pki)?;
    let admin = authority.load_or_issue(&pki, "admin", &Subject::admin(), &[])?;
    // For a dns-lb that runs as a process of its own; `fedctl up` would make it too.
    authority.load_or_issue(&pki, "dns-lb", &Subject::dns(), &[])?;
    let path = options.data_dir.join("admin.conf");
    federation_runtime::kubeconfig::write(
        &path,
        &format!("https://{}", options.api_listen),
        &authority.certificate_pem,
        "admin",
        &admin,
    )?;
    eprintln!(
        "The federation's authority is in {}. Keep ca.key safe: who has it can join anything.",
        pki.display()
    );
    eprintln!("Start it with:  fedctl up --data-dir {}", options.data_dir.display());
    println!("{}", path.display());
    Ok(())
}
