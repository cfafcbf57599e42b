//! `exit137 schema`.

use super::{fail, print};
use crate::cli::{Schema, SchemaOf};
use crate::exit_status::ExitStatus;
use crate::{report, scenario, sizing};

/// Prints a JSON Schema.
pub fn schema(args: &Schema) -> ExitStatus {
    let schema = match args.of {
        SchemaOf::Scenario => scenario::schema(),
        SchemaOf::Report => report::model::schema(),
        SchemaOf::Size => sizing::report::schema(),
        SchemaOf::Sweep => sizing::sweep::schema(),
    };
    match serde_json::to_string_pretty(&schema) {
        Ok(text) => print(&(text + "\n")),
        Err(error) => fail(&format!("cannot write the schema: {error}")),
    }
}
