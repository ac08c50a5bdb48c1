//! Patches, as `kubectl patch`, overlays and the API server apply them.

use serde_json::Value;

/// Applies a JSON patch, which is a list of steps, or else a merge patch.
pub fn apply(object: &mut Value, patch: &Value) {
    match patch.as_array() {
        Some(steps) => steps.iter().for_each(|step| take_step(object, step)),
        None => merge(object, patch),
    }
}

fn take_step(object: &mut Value, step: &Value) {
    let path = step["path"].as_str().unwrap();
    let (parent, key) = path.rsplit_once('/').unwrap();
    let place = object.pointer_mut(parent).unwrap_or_else(|| panic!("no {path}"));
    let key = key.replace("~1", "/");
    let value = step["value"].clone();
    match (step["op"].as_str().unwrap(), place) {
        ("add", Value::Array(list)) if key == "-" => list.push(value),
        ("add", Value::Object(fields)) => drop(fields.insert(key, value)),
        ("replace", Value::Object(fields)) => *fields.get_mut(&key).expect(path) = value,
        ("replace", Value::Array(list)) => list[key.parse::<usize>().unwrap()] = value,
        ("remove", Value::Object(fields)) => drop(fields.remove(&key).expect(path)),
        (op, _) => panic!("{op} {path}"),
    }
}

/// Lists are replaced, and `null` removes a field.
fn merge(object: &mut Value, patch: &Value) {
    let Some(fields) = patch.as_object() else {
        *object = patch.clone();
        return;
    };
    if !object.is_object() {
        *object = Value::Object(serde_json::Map::new());
    }
    for (key, value) in fields {
        if value.is_null() {
            object.as_object_mut().unwrap().remove(key);
        } else {
            merge(&mut object[key], value);
        }
    }
}
