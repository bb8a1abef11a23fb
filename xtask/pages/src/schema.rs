//! Holding a value against docs/schema.json: the part of JSON Schema that is used there, and stricter in one
//! thing: a field that the schema doesn't tell of is wrong.

use serde_json::Value;

pub struct Schema {
    root: Value,
}

/// What says nothing about the value, or what is left to whole validators.
const SILENT: [&str; 2] = ["description", "pattern"];

impl Schema {
    pub fn new(root: Value) -> Schema {
        Schema { root }
    }

    /// A definition by its name.
    pub fn definition(&self, name: &str) -> &Value {
        &self.root["$defs"][name]
    }

    /// The definitions of the kinds of line, in their order.
    pub fn kinds(&self) -> Vec<&str> {
        let all = self.root["oneOf"].as_array().into_iter().flatten();
        all.filter_map(|one| one["$ref"].as_str()?.strip_prefix("#/$defs/")).collect()
    }

    /// Follows a reference.
    pub fn resolve<'a>(&'a self, schema: &'a Value) -> &'a Value {
        match schema["$ref"].as_str().and_then(|reference| reference.strip_prefix("#/$defs/")) {
            Some(name) => self.definition(name),
            None => schema,
        }
    }

    /// What is wrong with `value`, each with its place.
    pub fn faults(&self, value: &Value, schema: &Value, place: &str) -> Vec<String> {
        let schema = self.resolve(schema);
        let Some(keywords) = schema.as_object() else { return vec![format!("{place}: no schema")] };
        let mut faults = Vec::new();
        for (keyword, wanted) in keywords {
            match keyword.as_str() {
                "const" if value != wanted => faults.push(format!("{place} is {value}, not {wanted}")),
                "enum" if !wanted.as_array().is_some_and(|all| all.contains(value)) => {
                    faults.push(format!("{place} is {value}, none of {wanted}"));
                }
                "type" if !is_of(value, wanted) => {
                    faults.push(format!("{place} is {value}, not of type {wanted}"))
                }
                "required" => {
                    let names = wanted.as_array().into_iter().flatten().filter_map(Value::as_str);
                    let missing = names.filter(|name| value.is_object() && value.get(name).is_none());
                    faults.extend(missing.map(|name| format!("{place}.{name} is missing")));
                }
                "properties" => {
                    for (name, field) in value.as_object().into_iter().flatten() {
                        let place = format!("{place}.{name}");
                        match wanted.get(name) {
                            Some(schema) => faults.extend(self.faults(field, schema, &place)),
                            None => faults.push(format!("{place} isn't in the schema")),
                        }
                    }
                }
                "items" => {
                    let items = value.as_array().into_iter().flatten();
                    faults.extend(items.flat_map(|item| self.faults(item, wanted, &format!("{place}[]"))));
                }
                "oneOf" => {
                    let all: Vec<Vec<String>> = wanted
                        .as_array()
                        .into_iter()
                        .flatten()
                        .map(|one| self.faults(value, one, place))
                        .collect();
                    if !all.iter().any(Vec::is_empty) {
                        faults.extend(all.into_iter().flatten());
                    }
                }
                "const" | "enum" | "type" => {}
                other if SILENT.contains(&other) => {}
                other => faults.push(format!("{place}: `{other}` of the schema isn't understood here")),
            }
        }
        faults
    }
}

fn is_of(value: &Value, types: &Value) -> bool {
    let one = |name: &str| match name {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "integer" => value.is_i64() || value.is_u64(),
        "boolean" => value.is_boolean(),
        "null" => value.is_null(),
        _ => false,
    };
    match types {
        Value::Array(names) => names.iter().filter_map(Value::as_str).any(one),
        name => name.as_str().is_some_and(one),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn faults(value: Value) -> Vec<String> {
        let schema = Schema::new(json!({ "$defs": {
            "line": {
                "type": "object",
                "required": ["kind"],
                "properties": {
                    "kind": { "const": "x" },
                    "count": { "type": ["integer", "null"] },
                    "names": { "type": "array", "items": { "enum": ["a", "b"] } },
                    "inner": { "oneOf": [{ "$ref": "#/$defs/line" }, { "type": "null" }] }
                }
            }
        }}));
        schema.faults(&value, schema.definition("line"), "line")
    }

    #[test]
    fn what_the_schema_says_is_right() {
        assert_eq!(
            faults(json!({ "kind": "x", "count": null, "names": ["a"], "inner": { "kind": "x" } })),
            [""; 0]
        );
    }

    #[test]
    fn whatever_it_does_not_say_is_a_fault() {
        for wrong in [
            json!({}),
            json!({ "kind": "y" }),
            json!({ "kind": "x", "count": "1" }),
            json!({ "kind": "x", "names": ["c"] }),
            json!({ "kind": "x", "more": 1 }),
            json!({ "kind": "x", "inner": {} }),
            json!([]),
        ] {
            assert!(!faults(wrong.clone()).is_empty(), "{wrong}");
        }
    }
}
