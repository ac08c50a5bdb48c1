//! The documents of the repository, for the tests of what they say.

use std::fs;
use std::path::{Path, PathBuf};

pub const ROOT: &str = env!("CARGO_MANIFEST_DIR");

/// A document that people read.
pub struct Document {
    pub path: PathBuf,
    pub text: String,
}

/// A block of code.
pub struct Block {
    /// Document and line.
    pub place: String,
    /// The heading above it.
    pub heading: String,
    /// What follows the three backticks.
    pub mark: String,
    /// Without the indentation of the whole.
    pub text: String,
}

impl Document {
    pub fn read(path: PathBuf) -> Self {
        let text = fs::read_to_string(&path).unwrap();
        Self { path, text }
    }

    /// That of a path below the root.
    pub fn of(path: &str) -> Self {
        Self::read(Path::new(ROOT).join(path))
    }

    /// What may be code within a sentence.
    pub fn words(&self) -> impl Iterator<Item = &str> {
        self.text.split("```").step_by(2).flat_map(|prose| prose.split('`'))
    }

    /// The lines of its blocks of code.
    pub fn lines_of_code(&self) -> impl Iterator<Item = &str> {
        self.text.split("```").skip(1).step_by(2).flat_map(str::lines)
    }

    pub fn blocks(&self) -> Vec<Block> {
        let (mut blocks, mut heading) = (Vec::new(), String::new());
        let mut open: Option<(Block, &str)> = None;
        for (index, line) in self.text.lines().enumerate() {
            let (indent, rest) = line.split_at(line.len() - line.trim_start().len());
            match (rest.strip_prefix("```"), open.as_mut()) {
                (Some(mark), None) => {
                    let place = format!("{}:{}", self.path.display(), index + 1);
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
        assert!(open.is_none(), "{}: a block without an end", self.path.display());
        blocks
    }

    /// The cells of the rows of its tables, headings included: of the section with this heading, or of all.
    pub fn rows(&self, heading: &str) -> Vec<Vec<&str>> {
        let (_, section) = self.text.split_once(&format!("{heading}\n")).expect(heading);
        let section = match heading {
            "" => &self.text,
            _ => section.split("\n## ").next().unwrap(),
        };
        let rows = section.lines().filter_map(|line| line.strip_prefix("| ")?.strip_suffix('|'));
        // An empty cell has one space.
        rows.map(|row| row.split("| ").map(str::trim).collect()).collect()
    }

    /// Where its headings are found, as GitHub makes it of their text.
    pub fn anchors(&self) -> Vec<String> {
        let headings = self.text.lines().filter_map(|line| line.strip_prefix('#'));
        let anchor = |heading: &str| {
            let heading = heading.trim_start_matches('#').trim().to_lowercase();
            let kept = heading.chars().filter(|it| it.is_alphanumeric() || " -_".contains(*it));
            kept.collect::<String>().replace(' ', "-")
        };
        headings.map(anchor).collect()
    }
}

/// The words of a text that stand in backticks.
pub fn quoted(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2)
}

/// All of them.
pub fn documents() -> Vec<Document> {
    let root = Path::new(ROOT);
    let top = ["README.md", "SECURITY.md", "CONTRIBUTING.md", "CHANGELOG.md"];
    let mut paths: Vec<_> = top.into_iter().map(|name| root.join(name)).collect();
    for directory in ["docs", "docs/install"] {
        let below = fs::read_dir(root.join(directory)).unwrap();
        let below = below.map(|entry| entry.unwrap().path());
        paths.extend(below.filter(|path| path.extension().is_some_and(|it| it == "md")));
    }
    paths.into_iter().map(Document::read).collect()
}
