//! Lines of text for people: wrapped where they can be, never with a control character that came from a target.

use super::model::Frame;
use crate::symbolize::evidence::file_line;

/// The width text is laid out for; figures and names may run over it, sentences never.
pub(super) const WIDTH: usize = 80;
/// The column that file names start at, after an indented label.
const FILE_COLUMN: usize = 46;

/// The string with control characters, and those that turn the writing direction, escaped: a function name must
/// not be able to move the reader's cursor.
pub fn printable(s: &str) -> String {
    let mut out = String::with_capacity(s.len());
    for c in s.chars() {
        let turns = matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
        if c.is_control() || turns {
            out.extend(c.escape_unicode());
        } else {
            out.push(c);
        }
    }
    out
}

/// Text under construction.
#[derive(Default)]
pub(super) struct Lines {
    text: String,
}

impl Lines {
    /// One line as it is.
    pub(super) fn line(&mut self, s: &str) {
        let s = printable(s);
        self.text.push_str(s.trim_end());
        self.text.push('\n');
    }

    pub(super) fn blank(&mut self) {
        self.text.push('\n');
    }

    /// A sentence behind a label, wrapped and indented below it.
    pub(super) fn labelled(&mut self, label: &str, sentence: &str) {
        let indent = label.chars().count();
        let mut line = printable(label);
        let mut used = indent;
        let mut first = true;
        let sentence = printable(sentence);
        let mut words = sentence.split_whitespace().peekable();
        while let Some(word) = words.next() {
            // The groups of one number (2 000) stay on one line.
            let mut word = word.to_owned();
            while word.chars().next_back().is_some_and(|c| c.is_ascii_digit())
                && let Some(group) = words.next_if(|next| is_group(next))
            {
                word.push(' ');
                word.push_str(group);
            }
            let width = word.chars().count();
            if !first && used + 1 + width > WIDTH {
                self.text.push_str(line.trim_end());
                self.text.push('\n');
                line = " ".repeat(indent);
                used = indent;
                first = true;
            }
            if !first {
                line.push(' ');
                used += 1;
            }
            line.push_str(&word);
            used += width;
            first = false;
        }
        self.text.push_str(line.trim_end());
        self.text.push('\n');
    }

    /// Parts separated by dots, broken only between parts.
    pub(super) fn parts(&mut self, parts: &[String]) {
        let mut line = String::new();
        for part in parts.iter().filter(|p| !p.is_empty()) {
            if !line.is_empty() && line.chars().count() + 3 + part.chars().count() > WIDTH {
                self.line(&line);
                line.clear();
            }
            if !line.is_empty() {
                line.push_str(" · ");
            }
            line.push_str(part);
        }
        if !line.is_empty() {
            self.line(&line);
        }
    }

    /// A frame behind a label: function, file:line, and what else there is to say.
    pub(super) fn frame(&mut self, label: &str, frame: &Frame, after: &str) {
        let mut line = format!("{label}{}", frame.function);
        let place = place(frame);
        if !place.is_empty() || !after.is_empty() {
            let gap = FILE_COLUMN.saturating_sub(line.chars().count()).max(2);
            let rest = [place.as_str(), after].join("   ");
            if line.chars().count() + gap + rest.trim().chars().count() > WIDTH
                && line.chars().count() > FILE_COLUMN
            {
                self.line(&line);
                line = " ".repeat(FILE_COLUMN);
            } else {
                line.push_str(&" ".repeat(gap));
            }
            line.push_str(rest.trim());
        }
        self.line(&line);
    }

    /// What the sign means, where a figure has it.
    pub(super) fn explain_errors(&mut self) {
        if self.text.contains('±') {
            self.labelled("note: ", "± is one standard error; 95 % of such figures are within two");
        }
    }

    pub(super) fn finish(self) -> String {
        self.text
    }
}

/// "cache.go:42".
pub(super) fn place(frame: &Frame) -> String {
    file_line(&frame.file, frame.line)
}

/// Three digits that go on a number's groups, alone or with its unit behind.
fn is_group(word: &str) -> bool {
    let digits = word.chars().take_while(char::is_ascii_digit).count();
    digits == 3 && word.chars().nth(3).is_none_or(|c| !c.is_alphanumeric() && c != '.')
}
