//! How what was found is printed: `-o table|json|yaml|name`.

use anyhow::{Result, bail};
use serde::Serialize;
use serde_json::{Value, json};

/// Output format of what people look at and programs read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Output {
    /// For people.
    #[value(alias = "text")]
    Table,
    /// For programs.
    Json,
    /// For programs and people.
    Yaml,
    /// Only names, one a line, as other commands take them.
    Name,
}

/// The flag.
#[derive(clap::Args, Clone, Copy, Debug)]
pub(crate) struct Flag {
    /// Output format.
    #[arg(long, short, value_enum, default_value_t = Output::Table)]
    output: Output,
}

impl Flag {
    /// Prints in the format that was asked for.
    ///
    /// # Errors
    /// When only names are wanted of what has none, or it cannot be serialized.
    pub(crate) fn print(self, what: &impl Printed) -> Result<()> {
        print!("{}", printed(self.output, what)?);
        Ok(())
    }
}

/// What can be printed in each format.
pub(crate) trait Printed {
    /// For people.
    fn text(&self) -> String;
    /// For programs.
    fn value(&self) -> Result<Value>;
    /// Names, if it is about things that have one.
    fn names(&self) -> Option<Vec<String>>;
}

fn printed(format: Output, what: &impl Printed) -> Result<String> {
    Ok(match format {
        Output::Table => what.text(),
        Output::Json => format!("{:#}\n", what.value()?),
        Output::Yaml => {
            let text = serde_saphyr::to_string(&what.value()?)?;
            if text.ends_with('\n') { text } else { text + "\n" }
        }
        Output::Name => {
            let Some(names) = what.names() else { bail!("this has no name: use -o table, json or yaml") };
            names.iter().flat_map(|name| [name.as_str(), "\n"]).collect()
        }
    })
}

/// Things of one kind, as a table.
pub(crate) struct List<'a, T, const COLUMNS: usize> {
    /// The things.
    pub(crate) items: &'a [T],
    /// The table's head.
    pub(crate) header: [&'static str; COLUMNS],
    /// What the table says about one.
    pub(crate) row: fn(&T) -> [String; COLUMNS],
    /// Its name.
    pub(crate) name: fn(&T) -> String,
}

impl<T: Serialize + k8s_openapi::Resource, const COLUMNS: usize> Printed for List<'_, T, COLUMNS> {
    fn text(&self) -> String {
        let mut table = table(self.header);
        for item in self.items {
            table.add_row((self.row)(item));
        }
        format!("{table}\n")
    }

    /// As kubectl prints several objects.
    fn value(&self) -> Result<Value> {
        let mut items = Vec::new();
        for item in self.items {
            let mut item = serde_json::to_value(item)?;
            // Items of a list do not say their kind.
            item["apiVersion"] = T::API_VERSION.into();
            item["kind"] = T::KIND.into();
            items.push(item);
        }
        Ok(json!({"apiVersion": "v1", "kind": "List", "metadata": {"resourceVersion": ""}, "items": items}))
    }

    fn names(&self) -> Option<Vec<String>> {
        Some(self.items.iter().map(self.name).collect())
    }
}

/// An empty table without lines.
pub(crate) fn table<const COLUMNS: usize>(header: [&'static str; COLUMNS]) -> comfy_table::Table {
    let mut table = comfy_table::Table::new();
    table.load_style(comfy_table::presets::NOTHING).set_header(header);
    table
}

/// A word of the API as it stands there, such as a verdict.
pub(crate) fn word(of: &impl Serialize) -> String {
    match serde_json::to_value(of) {
        Ok(Value::String(word)) => word,
        Ok(other) => other.to_string(),
        Err(_) => String::new(),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use federation_core::api::{Cluster, ClusterSpec, DrillPhase, Verdict};

    use super::*;

    fn shown(format: Output) -> String {
        let cluster =
            |name: &str| Cluster { kind: String::new(), ..Cluster::new(name, ClusterSpec::default()) };
        let list = List {
            items: &[cluster("taiwan"), cluster("tokyo")],
            header: ["NAME"],
            row: |cluster| [cluster.name().to_owned()],
            name: |cluster| cluster.name().to_owned(),
        };
        printed(format, &list).unwrap()
    }

    #[test]
    fn a_list_is_printed_for_people_for_programs_and_by_name() {
        assert_eq!(shown(Output::Name), "taiwan\ntokyo\n");
        assert_eq!(shown(Output::Table).split_whitespace().collect::<Vec<_>>(), ["NAME", "taiwan", "tokyo"]);
        let json: Value = serde_json::from_str(&shown(Output::Json)).unwrap();
        let yaml: Value = serde_saphyr::from_str(&shown(Output::Yaml)).unwrap();
        assert_eq!(json, yaml);
        assert_eq!((&json["kind"], &json["items"][1]["metadata"]["name"]), (&json!("List"), &json!("tokyo")));
        assert_eq!(json["items"][0]["kind"], "Cluster");
    }

    #[test]
    fn words_are_those_of_the_api() {
        assert_eq!(word(&Verdict::DataPlaneDown), "DataPlaneDown");
        assert_eq!(word(&DrillPhase::Passed), "Passed");
    }
}
