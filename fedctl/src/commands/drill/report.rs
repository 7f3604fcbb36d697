//! `fedctl drill report ID`: what a drill came to, signed; and `--verify FILE`, which says whether a report is what the hub signed.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use base64::Engine as _;
use federation_core::api::FailoverDrill;
use federation_core::drill::report::{Report, embedded, html, signed_bytes, text};
use federation_runtime::pki;
use kube::Api;
use kube::api::ListParams;

use crate::commands::output::word;
use crate::connect::Connection;

/// Options of `fedctl drill report`.
#[derive(clap::Args, Debug)]
pub(crate) struct Options {
    #[command(flatten)]
    connection: Connection,
    /// The ID from `fedctl drill list`.
    #[arg(required_unless_present = "verify")]
    id: Option<String>,
    /// Output format.
    #[arg(long, value_enum, default_value = "text")]
    format: Format,
    /// Verifies a report file (html or json) instead of printing one.
    #[arg(long, value_name = "FILE", conflicts_with = "id")]
    verify: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum Format {
    Text,
    Json,
    Html,
}

pub(super) async fn report(options: Options) -> Result<()> {
    let (authority, _) = options.connection.identity()?;
    if let Some(file) = &options.verify {
        let page = std::fs::read_to_string(file).with_context(|| format!("reading {}", file.display()))?;
        let report = read(&page, file)?;
        let pin = check(&report, &authority)?;
        let drill = report.object();
        let status = drill.status.clone().unwrap_or_default();
        println!("failoverdrill/{} {}: {}", drill.name(), word(&status.phase), status.message);
        println!("signed by {pin}");
        return Ok(());
    }
    let id = options.id.unwrap_or_default();
    let api: Api<FailoverDrill> = Api::all(options.connection.client().await?);
    let all = api.list(&ListParams::default()).await?.items;
    let Some(drill) = all.iter().find(|drill| drill.name() == id) else {
        bail!("there is no drill {id:?}: see `fedctl drill list`");
    };
    let report = Report::new(drill, &all);
    if report.signature.is_some()
        && let Err(error) = check(&report, &authority)
    {
        eprintln!("warning: {error:#}");
    }
    match options.format {
        Format::Text => print!("{}", text(&report)),
        Format::Json => println!("{}", serde_json::to_string_pretty(&report)?),
        Format::Html => print!("{}", html(&report)),
    }
    Ok(())
}

/// A report from a file. A page must say what its data says.
fn read(page: &str, file: &Path) -> Result<Report> {
    if page.trim_start().starts_with('{') {
        return serde_json::from_str(page).with_context(|| format!("{} is no report", file.display()));
    }
    let report = embedded(page).with_context(|| format!("{} holds no report", file.display()))?;
    if html(&report) != page {
        bail!("{} does not show what its own data says: it was changed", file.display());
    }
    Ok(report)
}

/// The pin of the key that signed it.
fn check(report: &Report, authority_pem: &str) -> Result<pki::SpkiPin> {
    let Some(signature) = &report.signature else {
        bail!("the report is not signed: the drill was not over when it was made");
    };
    let value = base64::engine::general_purpose::STANDARD
        .decode(&signature.value)
        .context("the signature cannot be read")?;
    pki::verify(authority_pem, &signed_bytes(&report.drill), &value)
        .context("the report is not what this federation's hub signed")
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use federation_core::api::{DrillSignature, FailoverDrillSpec};
    use federation_core::drill::report::document;
    use federation_runtime::pki::Authority;

    use super::*;

    #[test]
    fn a_report_that_was_changed_is_found_out() {
        let directory = tempfile::tempdir().unwrap();
        let authority = Authority::load_or_create(directory.path()).unwrap();
        let mut drill = FailoverDrill::new("first", FailoverDrillSpec::default());
        let value = authority.sign(&signed_bytes(&document(&drill))).unwrap();
        drill.status.get_or_insert_default().signature = Some(DrillSignature {
            algorithm: pki::ALGORITHM.into(),
            key: authority.pin().unwrap().to_string(),
            value: base64::engine::general_purpose::STANDARD.encode(value),
        });
        let report = Report::new(&drill, &[]);
        let (page, json) = (html(&report), serde_json::to_string(&report).unwrap());
        let file = Path::new("report");
        for good in [&page, &json] {
            check(&read(good, file).unwrap(), &authority.certificate_pem).unwrap();
        }
        let forged = json.replace("Pending", "Passed");
        assert!(check(&read(&forged, file).unwrap(), &authority.certificate_pem).is_err());
        // What people see, and what programs read.
        assert!(read(&page.replace(">Pending<", ">Passed<"), file).is_err());
        assert!(read(&page.replace("\"phase\":\"Pending\"", "\"phase\":\"Passed\""), file).is_err());
    }
}
