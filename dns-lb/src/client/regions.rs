//! Regions by prefix, country and continent, as the hub describes them, validated.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use proto::v1;

use super::{Prefix, PrefixError};

/// Regions with a name of their own. A table of 10,000 names has a choice by region for each distinct layout of variants, so that
/// this bounds that memory, not the federation: it is some ten times the regions of the largest clouds together.
const REGIONS_MAX: usize = 1024;
/// Prefixes of the table: the whole IPv4 Internet is announced in about a million.
const PREFIXES_MAX: usize = 1 << 20;
/// Octets of a region's name.
const NAME_MAX: usize = 63;

/// A region, as an index; clients of no region have [`Region::NONE`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Region(pub u16);

impl Region {
    /// No region.
    pub const NONE: Self = Self(0);
}

/// Names of regions in order of appearance.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RegionNames(BTreeMap<Arc<str>, Region>);

/// Which clients are in which region.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Regions {
    /// Names, those of variants too.
    pub names: RegionNames,
    /// In order, each once.
    pub prefixes: Vec<(Prefix, Region)>,
    /// By ISO 3166-1 alpha-2 code.
    pub countries: BTreeMap<[u8; 2], Region>,
    /// By the two letters of the continent.
    pub continents: BTreeMap<[u8; 2], Region>,
}

/// What is wrong with the table of regions.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RegionProblem {
    /// No name of a region.
    #[error("region: {0:?} is not a name of 1 to {NAME_MAX} letters, digits, '-', '_' and '.'")]
    Name(String),
    /// Too many names.
    #[error("region: more than {REGIONS_MAX} names")]
    TooMany,
    /// A prefix is none.
    #[error("prefix: {0}")]
    Prefix(#[from] PrefixError),
    /// Two regions for one prefix.
    #[error("prefix: {0} is listed twice")]
    Twice(Prefix),
    /// Too many prefixes.
    #[error("prefixes: more than {PREFIXES_MAX}")]
    Prefixes,
    /// Not two capital letters.
    #[error("countries and continents: {0:?} is not a code of two capital letters")]
    Code(String),
    /// Not a continent.
    #[error("continents: {0:?} is none of AF, AN, AS, EU, NA, OC, SA")]
    Continent(String),
}

impl RegionNames {
    /// The region called `name`, made if it is new.
    ///
    /// # Errors
    /// When it is no name, or there are too many.
    pub fn region(&mut self, name: &str) -> Result<Region, RegionProblem> {
        if let Some(&region) = self.0.get(name) {
            return Ok(region);
        }
        let usual = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
        if name.is_empty() || name.len() > NAME_MAX || !name.bytes().all(usual) {
            return Err(RegionProblem::Name(name.into()));
        }
        if self.0.len() == REGIONS_MAX {
            return Err(RegionProblem::TooMany);
        }
        let region = Region(self.0.len() as u16 + 1);
        self.0.insert(name.into(), region);
        Ok(region)
    }

    /// How many indices there are, [`Region::NONE`] included.
    pub fn count(&self) -> usize {
        self.0.len() + 1
    }

    /// What `region` is called; none for [`Region::NONE`].
    pub fn name(&self, region: Region) -> Option<&str> {
        self.0.iter().find(|(_, of)| **of == region).map(|(name, _)| &**name)
    }

    /// The region called `name`, if there is one.
    pub fn get(&self, name: &str) -> Option<Region> {
        self.0.get(name).copied()
    }
}

impl Regions {
    /// Validates the hub's table.
    ///
    /// # Errors
    /// The first thing that is wrong.
    pub fn from_wire(described: &v1::Regions) -> Result<Self, RegionProblem> {
        if described.prefixes.len() > PREFIXES_MAX {
            return Err(RegionProblem::Prefixes);
        }
        let mut regions = Self::default();
        for one in &described.prefixes {
            let region = regions.names.region(&one.region)?;
            regions.prefixes.push((one.prefix.parse()?, region));
        }
        regions.prefixes.sort_unstable();
        let twice = regions.prefixes.windows(2).find_map(|pair| match pair {
            [(first, _), (second, _)] if first == second => Some(*first),
            _ => None,
        });
        if let Some(prefix) = twice {
            return Err(RegionProblem::Twice(prefix));
        }
        // In order of the code, so that every server gives a name the same index.
        for (code, name) in described.countries.iter().collect::<BTreeSet<_>>() {
            regions.countries.insert(letters(code)?, regions.names.region(name)?);
        }
        for (code, name) in described.continents.iter().collect::<BTreeSet<_>>() {
            if !matches!(code.as_str(), "AF" | "AN" | "AS" | "EU" | "NA" | "OC" | "SA") {
                return Err(RegionProblem::Continent(code.clone()));
            }
            regions.continents.insert(letters(code)?, regions.names.region(name)?);
        }
        Ok(regions)
    }
}

fn letters(code: &str) -> Result<[u8; 2], RegionProblem> {
    match <[u8; 2]>::try_from(code.as_bytes()) {
        Ok(letters) if letters.iter().all(u8::is_ascii_uppercase) => Ok(letters),
        _ => Err(RegionProblem::Code(code.into())),
    }
}
