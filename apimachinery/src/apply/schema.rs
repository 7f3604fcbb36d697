//! The schema that field ownership follows: which lists and maps are one value and which are many.

use std::collections::{BTreeMap, HashMap};
use std::sync::LazyLock;

use serde::{Deserialize, Deserializer};
use serde_json::Value;

/// Types by name, as in structured-merge-diff's schema documents.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Schema {
    /// The named types.
    pub types: HashMap<String, Atom>,
}

/// What a value may be; usually one of the three is set.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct Atom {
    /// The value may be a scalar.
    pub scalar: Option<Scalar>,
    /// The value may be a list.
    pub list: Option<Box<ListType>>,
    /// The value may be a map or struct.
    pub map: Option<Box<MapType>>,
}

/// The scalars.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Scalar {
    /// An integer or a float.
    Numeric,
    /// Text.
    String,
    /// True or false.
    Boolean,
    /// Any of them, such as int-or-string.
    Untyped,
}

/// Whether the items of a list or map have owners of their own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Relationship {
    /// The whole is one value (`x-kubernetes-list-type: atomic`, `x-kubernetes-map-type: atomic`).
    Atomic,
    /// List items are told apart by keys or by value (`map`, `set`).
    Associative,
    /// Map entries are apart (`granular`).
    #[serde(alias = "granular")]
    Separable,
}

/// A list. Associative with keys is a `map` list, associative without keys a `set`.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ListType {
    /// The type of the items.
    pub element_type: TypeRef,
    /// Atomic or associative.
    #[serde(default = "atomic")]
    pub element_relationship: Relationship,
    /// The fields that tell items apart (`x-kubernetes-list-map-keys`).
    #[serde(default)]
    pub keys: Vec<String>,
}

/// A map or a struct.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct MapType {
    /// The fields of a struct.
    #[serde(default, deserialize_with = "fields")]
    pub fields: BTreeMap<String, StructField>,
    /// The type of all other entries; without one, other entries are refused.
    #[serde(default)]
    pub element_type: Option<TypeRef>,
    /// Atomic or separable.
    #[serde(default = "separable")]
    pub element_relationship: Relationship,
}

impl Default for MapType {
    fn default() -> Self {
        Self { fields: BTreeMap::new(), element_type: None, element_relationship: Relationship::Separable }
    }
}

/// A field of a struct.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
pub struct StructField {
    /// Its type.
    #[serde(rename = "type")]
    pub field_type: TypeRef,
    /// Its default; stands in for a missing list key.
    #[serde(default)]
    pub default: Option<Value>,
}

/// A type, named or written out.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct TypeRef {
    /// The name of a type of the schema; an unknown name means "deduce from the value".
    #[serde(rename = "namedType")]
    pub named: Option<String>,
    /// The type itself, when not named.
    #[serde(flatten)]
    pub inlined: Atom,
    /// Overrides the relationship of the type referred to.
    pub element_relationship: Option<Relationship>,
}

fn atomic() -> Relationship {
    Relationship::Atomic
}

fn separable() -> Relationship {
    Relationship::Separable
}

fn fields<'de, D: Deserializer<'de>>(deserializer: D) -> Result<BTreeMap<String, StructField>, D::Error> {
    #[derive(Deserialize)]
    struct Named {
        name: String,
        #[serde(flatten)]
        field: StructField,
    }
    let fields = Vec::<Named>::deserialize(deserializer)?;
    Ok(fields.into_iter().map(|named| (named.name, named.field)).collect())
}

impl TypeRef {
    /// Refers to a named type.
    pub fn named(name: impl Into<String>) -> Self {
        Self { named: Some(name.into()), ..Self::default() }
    }

    /// A type written out in place.
    pub fn inline(atom: Atom) -> Self {
        Self { inlined: atom, ..Self::default() }
    }
}

impl Atom {
    /// A scalar.
    pub fn scalar(scalar: Scalar) -> Self {
        Self { scalar: Some(scalar), ..Self::default() }
    }

    /// A list.
    pub fn list(list: ListType) -> Self {
        Self { list: Some(Box::new(list)), ..Self::default() }
    }

    /// A map or struct.
    pub fn map(map: MapType) -> Self {
        Self { map: Some(Box::new(map)), ..Self::default() }
    }
}

impl<'de> Deserialize<'de> for Schema {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        struct Named {
            name: String,
            #[serde(flatten)]
            atom: Atom,
        }
        #[derive(Deserialize)]
        struct Document {
            types: Vec<Named>,
        }
        let document = Document::deserialize(deserializer)?;
        Ok(Self { types: document.types.into_iter().map(|named| (named.name, named.atom)).collect() })
    }
}

/// The other versions of a kind whose versions differ in more than their name.
pub trait Versions: std::fmt::Debug + Sync {
    /// An object in a version, whatever version it is of; none if it cannot be had.
    fn convert(&self, object: &Value, api_version: &str) -> Option<Value>;

    /// The type of a version; none if there is no such version any more.
    fn kind(&self, api_version: &str) -> Option<ObjectType<'_>>;
}

/// The type of one kind of object within a schema.
#[derive(Debug, Clone, Copy)]
pub struct ObjectType<'a> {
    pub(super) schema: &'a Schema,
    pub(super) root: &'a TypeRef,
    /// What every object has, whoever writes it: no write adds it. None if nothing is.
    pub(super) zero: Option<&'a Value>,
    /// Its other versions; none if all are the same but for their name.
    pub(super) versions: Option<&'a dyn Versions>,
}

/// The schema of what has none: maps are separable, lists atomic.
static DEDUCED: LazyLock<(Schema, TypeRef, Atom)> = LazyLock::new(|| {
    let atom = |element: &str, relationship| Atom {
        scalar: Some(Scalar::Untyped),
        list: Some(Box::new(ListType {
            element_type: TypeRef::named("__untyped_atomic_"),
            element_relationship: Relationship::Atomic,
            keys: Vec::new(),
        })),
        map: Some(Box::new(MapType {
            fields: BTreeMap::new(),
            element_type: Some(TypeRef::named(element)),
            element_relationship: relationship,
        })),
    };
    let deduced = atom("__untyped_deduced_", Relationship::Separable);
    let types = HashMap::from([
        ("__untyped_atomic_".to_owned(), atom("__untyped_atomic_", Relationship::Atomic)),
        ("__untyped_deduced_".to_owned(), deduced.clone()),
    ]);
    (Schema { types }, TypeRef::named("__untyped_deduced_"), deduced)
});

/// A type as it applies to one value.
#[derive(Debug, Clone, Copy)]
pub(super) enum Shape<'a> {
    Scalar(Scalar),
    List(&'a ListType, Relationship),
    Map(&'a MapType, Relationship),
    /// The type allows nothing; only a broken schema has this.
    Nothing,
}

impl<'a> ObjectType<'a> {
    /// An object of type `root`.
    pub fn new(schema: &'a Schema, root: &'a TypeRef) -> Self {
        Self { schema, root, zero: None, versions: None }
    }

    /// The same type, of which every object has these fields even if nothing is in them: Go's zero value.
    pub fn with_zero(self, zero: &'a Value) -> Self {
        Self { zero: Some(zero), ..self }
    }

    /// The same type among other versions: what managers own is named in the version in which they wrote.
    pub fn with_versions(self, versions: &'a dyn Versions) -> Self {
        Self { versions: Some(versions), ..self }
    }

    /// Whether fields have names of their own in a version. There are a few of those; clients may write down any others.
    pub(super) fn is_apart(self, api_version: &str) -> bool {
        self.versions.is_some_and(|versions| versions.kind(api_version).is_some())
    }

    /// An object of this type as a version shows it, with that version's type. As it is if it cannot be had.
    pub(super) fn in_version(self, object: &Value, api_version: &str) -> (Self, Value) {
        let of = |object: &Value| object["apiVersion"].as_str().map(str::to_owned);
        let as_it_is = || (self, object.clone());
        let Some(versions) = self.versions else { return as_it_is() };
        let Some(kind) = versions.kind(api_version) else { return as_it_is() };
        match of(object) {
            Some(own) if own == api_version => (kind, object.clone()),
            Some(_) => versions.convert(object, api_version).map_or_else(as_it_is, |object| (kind, object)),
            None => (kind, object.clone()),
        }
    }

    /// The type of an object about which nothing is known.
    pub fn deduced() -> ObjectType<'static> {
        ObjectType { schema: &DEDUCED.0, root: &DEDUCED.1, zero: None, versions: None }
    }

    fn atom(self, reference: &'a TypeRef) -> &'a Atom {
        match &reference.named {
            Some(name) => {
                self.schema.types.get(name).or_else(|| DEDUCED.0.types.get(name)).unwrap_or(&DEDUCED.2)
            }
            None => &reference.inlined,
        }
    }

    /// The alternative of the type that fits the value, or the first one when none does.
    pub(super) fn shape(self, reference: &'a TypeRef, value: Option<&Value>) -> Shape<'a> {
        let atom = self.atom(reference);
        let over = reference.element_relationship;
        let map = atom.map.as_deref().map(|map| Shape::Map(map, over.unwrap_or(map.element_relationship)));
        let list =
            atom.list.as_deref().map(|list| Shape::List(list, over.unwrap_or(list.element_relationship)));
        let scalar = atom.scalar.map(Shape::Scalar);
        let fitting = match value {
            Some(Value::Object(_)) => map,
            Some(Value::Array(_)) => list,
            Some(Value::Bool(_) | Value::Number(_) | Value::String(_)) => scalar,
            Some(Value::Null) | None => None,
        };
        fitting.or(map).or(scalar).or(list).unwrap_or(Shape::Nothing)
    }
}

impl MapType {
    /// The type of one entry, if such an entry is allowed.
    pub(super) fn entry_type(&self, name: &str) -> Option<&TypeRef> {
        self.fields.get(name).map(|field| &field.field_type).or(self.element_type.as_ref())
    }
}
