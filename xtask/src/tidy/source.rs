//! A Rust file split into what the rules look at: code, the contents of strings, and whether a line is test code.
//!
//! Apart so that no rule is fooled by a comment or a string. It is a small lexer, not a parser: it never fails.

/// One line, with comments gone.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub struct Line {
    /// The code, with each string literal emptied.
    pub code: String,
    /// The contents of string literals that begin or go on here.
    pub strings: String,
    /// Inside an item marked `#[cfg(test)]`, or in a file of tests.
    pub test: bool,
}

/// A file as the rules see it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Source {
    /// From the root of the checkout, with `/`.
    pub name: String,
    pub lines: Vec<Line>,
    pub first: String,
}

impl Source {
    pub fn new(name: &str, text: &str) -> Self {
        let mut lines = lex(text);
        let all = name.contains("/tests/") || name.starts_with("tests/") || name.ends_with("/tests.rs");
        mark_tests(&mut lines, all);
        Self { name: name.to_owned(), lines, first: text.lines().next().unwrap_or_default().to_owned() }
    }

    /// Lines of the product, with their numbers.
    pub fn product(&self) -> impl Iterator<Item = (usize, &Line)> {
        self.numbered().filter(|(_, line)| !line.test)
    }

    /// All lines, with their numbers.
    pub fn numbered(&self) -> impl Iterator<Item = (usize, &Line)> {
        self.lines.iter().enumerate().map(|(index, line)| (index + 1, line))
    }
}

/// True where `word` stands in `code` with no letter, digit or underscore beside it.
pub fn has_word(code: &str, word: &str) -> bool {
    let part = |c: char| c.is_alphanumeric() || c == '_';
    code.match_indices(word).any(|(at, _)| {
        !code[..at].chars().next_back().is_some_and(part)
            && !code[at + word.len()..].chars().next().is_some_and(part)
    })
}

enum State {
    Code,
    Comment { depth: usize },
    Text { hashes: Option<usize> },
}

fn lex(text: &str) -> Vec<Line> {
    let mut state = State::Code;
    let mut lines = Vec::new();
    for text in text.lines() {
        let mut line = Line::default();
        let chars: Vec<char> = text.chars().collect();
        let mut at = 0;
        while at < chars.len() {
            let rest = &chars[at..];
            match &mut state {
                State::Comment { depth } => {
                    if rest.starts_with(&['*', '/']) {
                        *depth -= 1;
                        at += 1;
                        if *depth == 0 {
                            state = State::Code;
                        }
                    } else if rest.starts_with(&['/', '*']) {
                        *depth += 1;
                        at += 1;
                    }
                    at += 1;
                }
                State::Text { hashes } => {
                    let closing = 1 + hashes.unwrap_or(0);
                    if hashes.is_none() && rest[0] == '\\' {
                        at += 2;
                    } else if rest[0] == '"'
                        && rest.len() >= closing
                        && rest[1..closing].iter().all(|c| *c == '#')
                    {
                        line.code.push('"');
                        line.strings.push(' ');
                        at += closing;
                        state = State::Code;
                    } else {
                        line.strings.push(rest[0]);
                        at += 1;
                    }
                }
                State::Code => {
                    if rest.starts_with(&['/', '/']) {
                        break;
                    }
                    if rest.starts_with(&['/', '*']) {
                        state = State::Comment { depth: 1 };
                        at += 2;
                        continue;
                    }
                    if rest[0] == '"' {
                        line.code.push('"');
                        state = State::Text { hashes: raw_hashes(&line.code) };
                        at += 1;
                        continue;
                    }
                    if rest[0] == '\'' {
                        let length = char_literal(rest);
                        line.code.push('\'');
                        at += length;
                        continue;
                    }
                    line.code.push(rest[0]);
                    at += 1;
                }
            }
        }
        lines.push(line);
    }
    lines
}

/// How many `#` a raw string that opens at the end of `code` has; None for an ordinary one.
fn raw_hashes(code: &str) -> Option<usize> {
    let before = code.strip_suffix('"')?;
    let head = before.trim_end_matches('#');
    let hashes = before.len() - head.len();
    let prefix = head.strip_suffix('r')?;
    let prefix = prefix.strip_suffix(['b', 'c']).unwrap_or(prefix);
    let word = prefix.chars().next_back().is_some_and(|c| c.is_alphanumeric() || c == '_');
    (!word).then_some(hashes)
}

/// The length of the character literal at a quote, or 1 where the quote begins a lifetime.
fn char_literal(rest: &[char]) -> usize {
    if rest.get(1) == Some(&'\\') {
        return rest.iter().skip(3).position(|c| *c == '\'').map_or(1, |at| at + 4);
    }
    if rest.get(2) == Some(&'\'') { 3 } else { 1 }
}

/// Marks each item that follows `#[cfg(test)]`, to its closing brace or semicolon.
fn mark_tests(lines: &mut [Line], all: bool) {
    let mut waiting = false;
    let mut depth = 0usize;
    for line in lines {
        if all {
            line.test = true;
            continue;
        }
        if depth == 0 && line.code.replace(' ', "").contains("#[cfg(test)]") {
            waiting = true;
        }
        line.test = waiting || depth > 0;
        let code =
            if waiting { line.code.rsplit("#[cfg(test)]").next().unwrap_or_default() } else { &line.code };
        for c in code.chars() {
            match c {
                '{' if waiting || depth > 0 => {
                    depth += 1;
                    waiting = false;
                }
                '}' if depth > 0 => depth -= 1,
                ';' if waiting => waiting = false,
                _ => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, code: &[&str], strings: &[&str]) {
        let source = Source::new("a.rs", text);
        assert_eq!(source.lines.iter().map(|line| line.code.trim()).collect::<Vec<_>>(), code, "{text}");
        assert_eq!(
            source.lines.iter().map(|line| line.strings.trim()).collect::<Vec<_>>(),
            strings,
            "{text}"
        );
    }

    #[test]
    fn comments_and_strings_are_told_from_code() {
        check("a // b \"c\"", &["a"], &[""]);
        check("a /* b\n /* c */ d */ e", &["a", "e"], &["", ""]);
        check(r#"f("x // \" y") g"#, &[r#"f("") g"#], &["x //  y"]);
        check("f(r#\"x \" y\"#) g", &["f(r#\"\") g"], &["x \" y"]);
        check("f(\"x\ny\") g", &["f(\"", "\") g"], &["x", "y"]);
        check("'\"' 'a' '\\'' b", &["' ' ' b"], &[""]);
        check("fn f<'a>(x: &'a str) {}", &["fn f<'a>(x: &'a str) {}"], &[""]);
    }

    #[test]
    fn words_are_whole() {
        assert!(has_word("unsafe { }", "unsafe"));
        assert!(!has_word("unsafe_op_in", "unsafe"));
        assert!(!has_word("not_unsafe", "unsafe"));
        assert!(has_word("a_unsafe unsafe", "unsafe"));
    }

    #[test]
    fn test_items_end_where_their_braces_do() {
        let text = "a\n#[cfg(test)]\nmod tests {\n fn b() {}\n}\nc\n#[cfg(test)] use d;\ne";
        let tests: Vec<bool> = Source::new("a.rs", text).lines.iter().map(|line| line.test).collect();
        assert_eq!(tests, [false, true, true, true, true, false, true, false]);
        assert!(Source::new("tests/tests/live.rs", "a").lines[0].test);
    }
}
