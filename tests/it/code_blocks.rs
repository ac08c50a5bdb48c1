//! The blocks of code of a page.

use std::fs;
use std::path::Path;

/// A block of code.
pub struct Block {
    /// Page and line.
    pub place: String,
    /// The heading above it.
    pub heading: String,
    /// What follows the three backticks.
    pub mark: String,
    /// Without the indentation of the whole.
    pub text: String,
}

pub fn blocks_of(page: &Path) -> Vec<Block> {
    let (mut blocks, mut heading) = (Vec::new(), String::new());
    let mut open: Option<(Block, &str)> = None;
    let text = fs::read_to_string(page).unwrap();
    for (index, line) in text.lines().enumerate() {
        let (indent, rest) = line.split_at(line.len() - line.trim_start().len());
        match (rest.strip_prefix("```"), open.as_mut()) {
            (Some(mark), None) => {
                let place = format!("{}:{}", page.display(), index + 1);
                let (heading, mark) = (heading.clone(), mark.to_owned());
                open = Some((Block { place, heading, mark, text: String::new() }, indent));
            }
            (Some(_), Some(_)) => blocks.extend(open.take().map(|(block, _)| block)),
            (None, Some((block, indent))) => {
                block.text += &format!("{}\n", line.strip_prefix(*indent).unwrap_or(line));
            }
            (None, None) => {
                if let Some(text) = line.strip_prefix("## ") {
                    heading = text.to_owned();
                }
            }
        }
    }
    assert!(open.is_none(), "{}: a block without an end", page.display());
    blocks
}
