//! Kinds as expressions see them: the published schemas as types of the Common Expression Language.

use kube_cel::{Type, escape};
use serde_json::Value;

use crate::Schemas;
use crate::schemas::reference;

impl Schemas {
    /// The type of a kind's objects.
    pub fn cel_type(&self, group: &str, version: &str, kind: &str) -> Option<Type> {
        let name = self.name_of(group, version, kind)?;
        Some(self.cel_type_of(self.definition(name)?))
    }

    /// The type of what a schema describes. A definition inside of itself is of any type.
    pub fn cel_type_of(&self, schema: &Value) -> Type {
        self.typed(schema, &mut Vec::new())
    }

    fn typed<'a>(&'a self, schema: &'a Value, above: &mut Vec<&'a str>) -> Type {
        let wrapped =
            schema["allOf"].as_array().filter(|all| all.len() == 1).and_then(|all| reference(&all[0]));
        if let Some(name) = reference(schema).or(wrapped) {
            let Some(definition) = self.definition(name).filter(|_| !above.contains(&name)) else {
                return Type::Dyn;
            };
            above.push(name);
            let found = self.typed(definition, above);
            above.pop();
            return found;
        }
        if schema["x-kubernetes-int-or-string"] == true || schema["nullable"] == true {
            return Type::Dyn;
        }
        match (schema["type"].as_str(), schema["format"].as_str()) {
            (Some("boolean"), _) => Type::Bool,
            (Some("integer"), _) => Type::Int,
            (Some("number"), _) => Type::Double,
            (Some("string"), Some("int-or-string")) => Type::Dyn,
            (Some("string"), Some("byte")) => Type::Bytes,
            (Some("string"), Some("date" | "date-time")) => Type::Timestamp,
            (Some("string"), Some("duration")) => Type::Duration,
            (Some("string"), _) => Type::String,
            (Some("array"), _) => Type::List(Box::new(self.typed(&schema["items"], above))),
            (Some("object"), _) => self.typed_object(schema, above),
            _ => Type::Dyn,
        }
    }

    fn typed_object<'a>(&'a self, schema: &'a Value, above: &mut Vec<&'a str>) -> Type {
        if schema["additionalProperties"].is_object() {
            let value = self.typed(&schema["additionalProperties"], above);
            return Type::Map(Box::new(Type::String), Box::new(value));
        }
        let open = schema["x-kubernetes-preserve-unknown-fields"] == true;
        let Some(properties) = schema["properties"].as_object().filter(|_| !open) else { return Type::Dyn };
        Type::object(properties.iter().map(|(name, field)| (escape(name), self.typed(field, above))))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use kube_cel::Program;

    use super::*;

    #[test]
    fn expressions_are_checked_against_published_kinds() {
        let schemas = Schemas::builtin();
        let known = [("object", schemas.cel_type("apps", "v1", "Deployment").unwrap())];
        for good in [
            "object.spec.replicas > 1 && object.metadata.labels['a'] == 'b'",
            "object.spec.template.spec.containers.all(c, c.image.startsWith('a') && c.resources.limits['cpu'] == '1')",
            "object.metadata.creationTimestamp > timestamp('2020-01-01T00:00:00Z')",
            "object.spec.strategy.rollingUpdate.maxSurge == 1 || object.spec.strategy.rollingUpdate.maxSurge == '25%'",
        ] {
            assert_eq!(Program::compile(good, &known).err(), None, "{good}");
        }
        for (bad, why) in [
            ("object.spec.replicas > '1'", "found no matching overload for '_>_' applied to '(int, string)'"),
            (
                "'got ' + object.spec.replicas",
                "found no matching overload for '_+_' applied to '(string, int)'",
            ),
            ("object.spec.replica == 1", "undefined field 'replica'"),
        ] {
            let error = Program::compile(bad, &known).unwrap_err().to_string();
            assert!(error.contains(why), "{bad}: {error}");
        }
        assert!(schemas.cel_type("apps", "v1", "Nothing").is_none());
        // Schemas of schemas end.
        assert!(schemas.cel_type("apiextensions.k8s.io", "v1", "CustomResourceDefinition").is_some());
    }
}
