//! The JSON Schema of scenarios: generated from the document's types and Kubernetes' own, then made strict.

use exit137_workload::Workload;
use schemars::generate::SchemaSettings;
use serde_json::{Map, Value, json};

use super::document::Document;

const CONTAINER: &str = "io.k8s.api.core.v1.Container";
const QUANTITY: &str = "io.k8s.apimachinery.pkg.api.resource.Quantity";
const INT_OR_STRING: &str = "io.k8s.apimachinery.pkg.util.intstr.IntOrString";

/// The JSON Schema that editors check scenarios with, and that `exit137 check` finds structural problems by.
pub fn schema() -> Value {
    let mut generator = SchemaSettings::draft2020_12().for_deserialize().into_generator();
    let workload = generator.subschema_for::<Workload>().to_value();
    let mut schema = generator.into_root_schema_for::<Document>().to_value();
    if let Some(definitions) = schema.get_mut("$defs").and_then(Value::as_object_mut) {
        // Kubernetes reads bare numbers as quantities too, and so leaves their type open.
        set_type(definitions, QUANTITY, &json!(["string", "number"]));
        set_type(definitions, INT_OR_STRING, &json!(["string", "integer"]));
        let container = definitions.get_mut(CONTAINER).and_then(|schema| schema.get_mut("properties"));
        if let Some(properties) = container.and_then(Value::as_object_mut) {
            properties.insert("workload".to_owned(), workload);
        }
    }
    make_strict(&mut schema);
    schema
}

fn set_type(definitions: &mut Map<String, Value>, name: &str, kind: &Value) {
    if let Some(definition) = definitions.get_mut(name).and_then(Value::as_object_mut) {
        definition.insert("type".to_owned(), kind.clone());
    }
}

/// Refuses unknown keys and empty values everywhere, and states the bounds that a number's format implies.
fn make_strict(schema: &mut Value) {
    let Some(object) = schema.as_object_mut() else { return };
    refuse_null(object);
    state_bounds(object);
    shorten_description(object);
    if object.contains_key("properties") && !object.contains_key("additionalProperties") {
        object.insert("additionalProperties".to_owned(), Value::Bool(false));
    }
    for (key, value) in object.iter_mut() {
        match (key.as_str(), value) {
            ("properties" | "$defs", Value::Object(schemas)) => schemas.values_mut().for_each(make_strict),
            ("anyOf" | "oneOf" | "allOf", Value::Array(schemas)) => schemas.iter_mut().for_each(make_strict),
            ("items" | "additionalProperties", schema) => make_strict(schema),
            _ => {}
        }
    }
}

/// An optional key is left out, not left empty: `limits:` with nothing after it is a slip.
fn refuse_null(object: &mut Map<String, Value>) {
    if object.get("default").is_some_and(Value::is_null) {
        object.remove("default");
    }
    if let Some(Value::Array(kinds)) = object.get_mut("type") {
        kinds.retain(|kind| kind != "null");
        if let [only] = &kinds[..] {
            let only = only.clone();
            object.insert("type".to_owned(), only);
        }
    }
    if let Some(Value::Array(values)) = object.get_mut("enum") {
        values.retain(|value| !value.is_null());
    }
    let Some(Value::Array(choices)) = object.get_mut("anyOf") else { return };
    choices.retain(|choice| choice.get("type").is_none_or(|kind| kind != "null"));
    if let [Value::Object(only)] = &choices[..] {
        let only = only.clone();
        object.remove("anyOf");
        for (key, value) in only {
            object.entry(key).or_insert(value);
        }
    }
}

fn state_bounds(object: &mut Map<String, Value>) {
    let bounds: Option<(i64, i64)> = match object.get("format").and_then(Value::as_str) {
        Some("int32") => Some((i32::MIN.into(), i32::MAX.into())),
        Some("int64") => Some((i64::MIN, i64::MAX)),
        Some("uint8") => Some((0, u8::MAX.into())),
        Some("uint16") => Some((0, u16::MAX.into())),
        Some("uint32") => Some((0, u32::MAX.into())),
        _ => None,
    };
    if let Some((least, most)) = bounds {
        object.entry("minimum").or_insert(least.into());
        object.entry("maximum").or_insert(most.into());
    }
}

/// Kubernetes' descriptions run to pages; editors show the first sentence.
fn shorten_description(object: &mut Map<String, Value>) {
    if let Some(Value::String(description)) = object.get_mut("description") {
        let text = description.split("\n\n").next().unwrap_or_default().replace('\n', " ");
        let end = text.find(". ").map_or(text.len(), |end| end + 1);
        text[..end].clone_into(description);
    }
}
