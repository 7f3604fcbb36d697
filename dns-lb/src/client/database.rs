//! Countries and continents of addresses, from a database in MaxMind's format (GeoLite2 Country or City, DB-IP, and others).

use std::fmt;
use std::path::{Path, PathBuf};

use maxminddb::{MaxMindDbError, Reader, WithinOptions, geoip2};

use super::{Prefix, Region, Regions};

/// A database, in memory.
pub struct Database(Reader<Vec<u8>>);

impl fmt::Debug for Database {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Database").field(&self.0.metadata().database_type).finish()
    }
}

/// A database cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("{path} is no database of countries in MaxMind's format")]
pub struct DatabaseError {
    /// Where it is.
    path: PathBuf,
    /// Why not.
    #[source]
    source: MaxMindDbError,
}

impl Database {
    /// Reads a file.
    ///
    /// # Errors
    /// When it cannot be read, or is no such database.
    pub fn open(path: &Path) -> Result<Self, DatabaseError> {
        let reader = Reader::open_readfile(path);
        reader.map(Self).map_err(|source| DatabaseError { path: path.into(), source })
    }

    /// The prefixes of every country and continent that `regions` has a region for, in order. What cannot be read is left out: a
    /// client of no region is answered too.
    fn prefixes(&self, regions: &Regions) -> Vec<(Prefix, Region)> {
        if regions.countries.is_empty() && regions.continents.is_empty() {
            return Vec::new();
        }
        let Ok(networks) = self.0.networks(WithinOptions::default()) else { return Vec::new() };
        let found = networks.flatten().filter_map(|found| {
            let network = found.network().ok()?;
            let place: geoip2::Country<'_> = found.decode().ok()??;
            let code = |code: Option<&str>| code.and_then(|code| <[u8; 2]>::try_from(code.as_bytes()).ok());
            let country = code(place.country.iso_code).and_then(|code| regions.countries.get(&code));
            let region = country.or_else(|| regions.continents.get(&code(place.continent.code)?)).copied()?;
            Some((Prefix::of(network.ip(), network.prefix()), region))
        });
        let mut prefixes: Vec<_> = found.collect();
        prefixes.sort_unstable();
        prefixes.dedup_by_key(|(prefix, _)| *prefix);
        prefixes
    }
}

/// The prefixes of `regions`, and where none of them holds a client, those of the database; in order, each once.
pub fn prefixes(regions: &Regions, database: Option<&Database>) -> Vec<(Prefix, Region)> {
    match database {
        Some(database) => merge(&regions.prefixes, database.prefixes(regions)),
        None => regions.prefixes.clone(),
    }
}

fn merge(table: &[(Prefix, Region)], database: Vec<(Prefix, Region)>) -> Vec<(Prefix, Region)> {
    let mut all: Vec<(Prefix, Region, bool)> =
        table.iter().map(|&(prefix, region)| (prefix, region, false)).collect();
    all.extend(database.into_iter().map(|(prefix, region)| (prefix, region, true)));
    all.sort_unstable_by_key(|&(prefix, _, second)| (prefix, second));
    // The outermost prefix of the table around the current one: in this order it comes before what it holds.
    let mut around: Option<Prefix> = None;
    all.retain(|&(prefix, _, second)| {
        let held = around.is_some_and(|around| around.contains(prefix.address()));
        if !second && !held {
            around = Some(prefix);
        }
        !(second && held)
    });
    all.into_iter().map(|(prefix, region, _)| (prefix, region)).collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::client::ClientMap;
    use proto::v1;

    /// A text in the format's data section: a control octet with type 2 and the length.
    fn text(text: &str) -> Vec<u8> {
        [&[0x40 | text.len() as u8], text.as_bytes()].concat()
    }

    /// A map in the same: type 7 and the count of pairs.
    fn map(pairs: &[(&str, Vec<u8>)]) -> Vec<u8> {
        let mut octets = vec![0xe0 | pairs.len() as u8];
        for (key, value) in pairs {
            octets.extend(text(key));
            octets.extend(value);
        }
        octets
    }

    /// Unsigned numbers of 16 bits (type 5), 32 (type 6), and 64 (extended type 9).
    fn number(kind: u8, value: u32) -> Vec<u8> {
        let octets = value.to_be_bytes();
        match kind {
            5 => [&[0xa2], &octets[2..]].concat(),
            6 => [&[0xc4], &octets[..]].concat(),
            _ => [&[0x04, 2], &octets[..]].concat(),
        }
    }

    /// A database of IPv4 with 24-bit records: `paths` of bits from the root, each with its data.
    fn database(paths: &[(&str, Vec<u8>)]) -> Vec<u8> {
        let mut nodes: Vec<[Option<Result<usize, usize>>; 2]> = vec![[None, None]];
        let mut data: Vec<u8> = Vec::new();
        for (path, value) in paths {
            let (mut at, bits) = (0, path.bytes().map(|bit| usize::from(bit == b'1')).collect::<Vec<_>>());
            for &bit in &bits[..bits.len() - 1] {
                at = match nodes[at][bit] {
                    Some(Ok(next)) => next,
                    _ => {
                        nodes.push([None, None]);
                        let next = nodes.len() - 1;
                        nodes[at][bit] = Some(Ok(next));
                        next
                    }
                };
            }
            nodes[at][bits[bits.len() - 1]] = Some(Err(data.len()));
            data.extend(value);
        }
        let count = nodes.len();
        let mut file = Vec::new();
        for record in nodes.iter().flatten() {
            let value = match record {
                None => count,
                Some(Ok(node)) => *node,
                Some(Err(offset)) => count + 16 + offset,
            };
            file.extend(&(value as u32).to_be_bytes()[1..]);
        }
        file.extend([0; 16]);
        file.extend(data);
        file.extend(b"\xab\xcd\xefMaxMind.com");
        file.extend(map(&[
            ("node_count", number(6, count as u32)),
            ("record_size", number(5, 24)),
            ("ip_version", number(5, 4)),
            ("database_type", text("Test-Country")),
            ("languages", vec![0x00, 4]),
            ("binary_format_major_version", number(5, 2)),
            ("binary_format_minor_version", number(5, 0)),
            ("build_epoch", number(9, 1)),
            ("description", map(&[])),
        ]));
        file
    }

    fn place(country: &str, continent: &str) -> Vec<u8> {
        map(&[
            ("continent", map(&[("code", text(continent))])),
            ("country", map(&[("iso_code", text(country))])),
        ])
    }

    #[test]
    fn the_database_says_where_a_client_is_that_the_table_does_not_name() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("countries.mmdb");
        // 32.0.0.0/4 in Taiwan, 48.0.0.0/4 in Japan, 64.0.0.0/3 in France, 96.0.0.0/3 in Chile.
        let file = database(&[
            ("0010", place("TW", "AS")),
            ("0011", place("JP", "AS")),
            ("010", place("FR", "EU")),
            ("011", place("CL", "SA")),
        ]);
        std::fs::write(&path, file).unwrap();
        let database = Database::open(&path).unwrap();
        let named = |pairs: &[(&str, &str)]| {
            pairs.iter().map(|(code, region)| ((*code).to_owned(), (*region).to_owned())).collect()
        };
        let prefix =
            |prefix: &str, region: &str| v1::ClientPrefix { prefix: prefix.into(), region: region.into() };
        let regions = Regions::from_wire(&v1::Regions {
            prefixes: vec![prefix("32.0.0.0/3", "own"), prefix("65.1.0.0/16", "own")],
            countries: named(&[("TW", "taiwan"), ("CL", "chile")]),
            continents: named(&[("AS", "asia"), ("EU", "europe")]),
        })
        .unwrap();
        let clients = ClientMap::new(prefixes(&regions, Some(&database)));
        let region = |address: &str| {
            regions
                .names
                .name(clients.locate(address.parse().unwrap(), 32).region)
                .unwrap_or("none")
                .to_owned()
        };
        // The table wins over what is narrower in the database, and over what is wider.
        assert_eq!((region("33.0.0.1"), region("65.1.0.1")), ("own".into(), "own".into()));
        assert_eq!((region("65.2.0.1"), region("97.0.0.1")), ("europe".into(), "chile".into()));
        assert_eq!(region("192.0.2.1"), "none");
        let regions = Regions { prefixes: Vec::new(), ..regions };
        let clients = ClientMap::new(prefixes(&regions, Some(&database)));
        let of = |address: &str| regions.names.name(clients.locate(address.parse().unwrap(), 32).region);
        // The country's region before the continent's.
        assert_eq!((of("33.0.0.1"), of("49.0.0.1")), (Some("taiwan"), Some("asia")));
        assert!(Database::open(directory.path()).is_err());
    }
}
