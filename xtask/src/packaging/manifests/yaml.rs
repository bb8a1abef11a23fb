//! The documents of a YAML file as JSON, in which members are found by their path.

use anyhow::{Context, Result};
use saphyr::{LoadableYamlNode, Scalar, Yaml};
use serde_json::{Map, Value};

pub fn documents(text: &str) -> Result<Vec<Value>> {
    let documents = Yaml::load_from_str(text).context("it is no YAML")?;
    Ok(documents.iter().map(json).collect())
}

fn json(node: &Yaml<'_>) -> Value {
    match node {
        Yaml::Value(Scalar::Boolean(value)) => Value::from(*value),
        Yaml::Value(Scalar::Integer(value)) => Value::from(*value),
        Yaml::Value(Scalar::FloatingPoint(value)) => Value::from(value.into_inner()),
        Yaml::Value(Scalar::String(value)) => Value::from(value.as_ref()),
        Yaml::Sequence(items) => items.iter().map(json).collect(),
        Yaml::Mapping(members) => {
            let member = |(key, value): (&Yaml<'_>, &Yaml<'_>)| Some((key.as_str()?.to_owned(), json(value)));
            Value::Object(members.iter().filter_map(member).collect::<Map<_, _>>())
        }
        _ => Value::Null,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_alias_is_what_its_anchor_is() {
        let text = "a: &labels {name: x}\nb: [*labels, 1, true, \"1\", ~]\n---\nc: d\n";
        let expected =
            [json!({"a": {"name": "x"}, "b": [{"name": "x"}, 1, true, "1", null]}), json!({"c": "d"})];
        assert_eq!(documents(text).unwrap(), expected);
        documents("a: [").unwrap_err();
    }
}
