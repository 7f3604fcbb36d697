//! `fedctl token create|list|delete`

use anyhow::{Context as _, Result};
use federation_controller::{announce, tokens};
use federation_runtime::pki::SpkiPin;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;

use crate::connect::Connection;

/// Commands on tokens.
#[derive(clap::Subcommand, Debug)]
pub(crate) enum Command {
    /// Creates a token with which one cluster can join, once.
    Create {
        #[command(flatten)]
        connection: Connection,
        /// Prints the complete join command instead of the token alone.
        #[arg(long)]
        print_join_command: bool,
        /// Restricts the token to the cluster of this name.
        #[arg(long, value_name = "NAME", value_parser = super::cluster_name)]
        cluster: Option<String>,
        /// Hours until the token expires.
        #[arg(long, default_value_t = 24, value_parser = clap::value_parser!(u64).range(1..=8760))]
        hours: u64,
        /// What the token is for.
        #[arg(long, default_value = "")]
        description: String,
        /// Address at which members reach the hub; the one that the federation announces if not given.
        #[arg(long, value_name = "HOST:PORT", value_parser = super::init::address)]
        hub: Option<String>,
    },
    /// Lists tokens that have not been used.
    List {
        #[command(flatten)]
        connection: Connection,
    },
    /// Deletes a token.
    Delete {
        #[command(flatten)]
        connection: Connection,
        /// The part of the token before the dot.
        id: String,
    },
}

pub(crate) async fn run(command: Command) -> Result<()> {
    match command {
        Command::Create { connection, print_join_command, cluster, hours, description, hub } => {
            let client = connection.client().await?;
            let request = tokens::Request {
                life: std::time::Duration::from_hours(hours),
                cluster: cluster.clone(),
                description,
            };
            let token = tokens::create_token(&client, &request).await?;
            if !print_join_command {
                println!("{token}");
                return Ok(());
            }
            let info = announce::announced(client).await?;
            let hub = hub
                .or(info.hub)
                .context("the federation does not say where its hub is: name it with --hub HOST:PORT")?;
            let hash = info.ca_cert_hash.context(
                "the federation does not say whose authority its hub presents: start federation-controller",
            )?;
            let name = cluster.as_deref().unwrap_or("CLUSTER");
            println!("fedctl join {name} --hub {hub} --token {token} --ca-cert-hash {hash}");
            Ok(())
        }
        Command::List { connection } => {
            let mut table = comfy_table::Table::new();
            table.load_style(comfy_table::presets::NOTHING).set_header([
                "ID",
                "EXPIRES",
                "CLUSTER",
                "DESCRIPTION",
            ]);
            for token in tokens::list(&connection.client().await?).await? {
                let cluster = token.cluster.unwrap_or_else(|| "<any>".into());
                table.add_row([token.id, token.expires.to_string(), cluster, token.description]);
            }
            println!("{table}");
            Ok(())
        }
        Command::Delete { connection, id } => Ok(tokens::delete(&connection.client().await?, &id).await?),
    }
}

/// The pin of the authority in a PEM text.
pub(crate) fn pin(authority_pem: &str) -> Result<SpkiPin> {
    let der = CertificateDer::from_pem_slice(authority_pem.as_bytes())
        .context("the authority's certificate is not PEM")?;
    Ok(SpkiPin::of_certificate(&der)?)
}
