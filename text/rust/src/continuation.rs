//! continue_final_message of transformers' apply_chat_template: the rendering ends inside the last
//! message, so that a model goes on with it instead of answering.

use serde_json::{Map, Value as Json};

use crate::python::is_space;

/// Follows the text to continue through the template; what comes after it is cut off. The same as
/// transformers', since a template sees it.
const MARK: &str = "CONTINUE_FINAL_MESSAGE_TAG ";

/// The field of the last message to continue; None when nothing is to be continued.
pub fn field(requested: Option<Json>) -> Result<Option<String>, String> {
    match requested {
        None | Some(Json::Null | Json::Bool(false)) => Ok(None),
        Some(Json::Bool(true)) => Ok(Some("content".into())),
        Some(Json::String(name)) => Ok(Some(name).filter(|name| !name.is_empty())),
        Some(_) => Err("continue_final_message: not true, false or a field's name".into()),
    }
}

/// Marks the end of the text in the last message's `field` and returns the text. `aliases` are
/// names under which messages carry the same thing; `source` is the template's.
pub fn mark(
    messages: &mut Json,
    field: &str,
    aliases: &[&str],
    source: &str,
) -> Result<String, String> {
    let last = messages
        .as_array_mut()
        .and_then(|list| list.last_mut())
        .and_then(Json::as_object_mut)
        .ok_or("continue_final_message: there is no message")?;
    let value = last
        .get(field)
        .cloned()
        .ok_or(format!("continue_final_message: the final message has no \"{field}\""))?;
    let names: Vec<&str> = if aliases.contains(&field) {
        aliases.iter().copied().filter(|name| last.get(*name) == Some(&value)).collect()
    } else {
        vec![field]
    };
    if !names.iter().any(|name| source.contains(name)) {
        return Err(format!("continue_final_message: the template does not use \"{field}\""));
    }
    match value {
        Json::String(text) => {
            for name in names {
                last.insert(name.into(), Json::String(format!("{text}{MARK}")));
            }
            Ok(text)
        }
        Json::Array(_) => mark_block(last, field),
        _ => Err(format!("continue_final_message: \"{field}\" is not text")),
    }
}

/// The last text block of a message made of blocks.
fn mark_block(message: &mut Map<String, Json>, field: &str) -> Result<String, String> {
    let blocks = message.get_mut(field).and_then(Json::as_array_mut).into_iter().flatten();
    for block in blocks.rev() {
        let Some(block) = block.as_object_mut() else { continue };
        let Some(text) = block.get("text") else { continue };
        let text = text.as_str().ok_or("continue_final_message: a block's text is not text")?;
        let text = text.to_string();
        block.insert("text".into(), Json::String(format!("{text}{MARK}")));
        return Ok(text);
    }
    Err("continue_final_message: the final message has no text to continue".into())
}

/// The rendering up to the end of `text`, which was marked.
pub fn cut(mut rendered: String, text: &str) -> Result<String, String> {
    let place =
        rendered.rfind(MARK.trim_end()).filter(|_| rendered.contains(text.trim_matches(is_space)));
    let Some(place) = place else {
        return Err(
            "continue_final_message: the template changes the final message, so it cannot \
                    be continued"
                .into(),
        );
    };
    let spacing_kept = rendered[place..].starts_with(MARK);
    rendered.truncate(place);
    if !spacing_kept {
        rendered.truncate(rendered.trim_end_matches(is_space).len());
    }
    Ok(rendered)
}
