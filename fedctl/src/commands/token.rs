//! `fedctl token create|list|delete`

use std::time::Duration;

use anyhow::{Context as _, Result};
use apimachinery::go_duration;
use federation_controller::{announce, tokens};
use federation_runtime::pki::SpkiPin;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use serde_json::{Value, json};

use super::output::{self, Printed};
use crate::connect::Connection;

/// A token that expires sooner is gone before it is used.
const LIFE_MIN: Duration = Duration::from_mins(1);
/// A year.
const LIFE_MAX: Duration = Duration::from_hours(8760);

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
        /// How long the token can be used, as 24h or 90m; at most a year.
        #[arg(long, alias = "hours", value_name = "DURATION", default_value = "24h", value_parser = life)]
        ttl: Duration,
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
        #[command(flatten)]
        output: output::Flag,
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
        Command::Create { connection, print_join_command, cluster, ttl, description, hub } => {
            let client = connection.client().await?;
            let request = tokens::Request { life: ttl, cluster: cluster.clone(), description };
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
        Command::List { connection, output } => {
            output.print(&Tokens(tokens::list(&connection.client().await?).await?))
        }
        Command::Delete { connection, id } => Ok(tokens::delete(&connection.client().await?, &id).await?),
    }
}

struct Tokens(Vec<tokens::Listed>);

impl Printed for Tokens {
    fn text(&self) -> String {
        let mut table = output::table(["ID", "EXPIRES", "CLUSTER", "DESCRIPTION"]);
        for token in &self.0 {
            let cluster = token.cluster.as_deref().unwrap_or("<any>");
            table.add_row([token.id.as_str(), &token.expires.to_string(), cluster, &token.description]);
        }
        format!("{table}\n")
    }

    fn value(&self) -> Result<Value> {
        let token = |token: &tokens::Listed| {
            json!({
                "id": token.id, "expires": token.expires.to_string(), "cluster": token.cluster,
                "description": token.description,
            })
        };
        Ok(json!({"items": self.0.iter().map(token).collect::<Vec<_>>()}))
    }

    fn names(&self) -> Option<Vec<String>> {
        Some(self.0.iter().map(|token| token.id.clone()).collect())
    }
}

/// Reads how long a token can be used. A number alone is of hours.
fn life(text: &str) -> Result<Duration, String> {
    match go_duration::hours(text)? {
        life if life < LIFE_MIN || life > LIFE_MAX => Err(format!("{text:?}: it must be from 1m to 8760h")),
        life => Ok(life),
    }
}

/// The pin of the authority in a PEM text.
pub(crate) fn pin(authority_pem: &str) -> Result<SpkiPin> {
    let der = CertificateDer::from_pem_slice(authority_pem.as_bytes())
        .context("the authority's certificate is not PEM")?;
    Ok(SpkiPin::of_certificate(&der)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_lives_for_hours_if_no_unit_is_given_and_at_most_a_year() {
        assert_eq!(life("1"), Ok(Duration::from_hours(1)));
        assert_eq!(life("90m"), Ok(Duration::from_mins(90)));
        assert_eq!(life("8760"), Ok(LIFE_MAX));
        for wrong in ["0", "59s", "8761h", "-1h", "soon"] {
            assert!(life(wrong).is_err(), "{wrong}");
        }
    }
}
