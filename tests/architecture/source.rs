//! Reads a Rust source text just well enough to see which paths and literals stand in its non-test code.

use std::collections::BTreeSet;

/// A source file without comments, literals and test code.
pub(crate) struct Source {
    /// Tokens: identifiers, and single characters of punctuation.
    tokens: Vec<String>,
    /// How many modules deep the file is: 1 for `exchange.rs`, 2 for `domain/scope.rs`.
    depth: usize,
    /// The contents of string literals.
    pub(crate) literals: Vec<String>,
}

/// The words of a text, an OAuth error code being one word.
pub(crate) fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_')
}

impl Source {
    /// Reads `text`; `path` is relative to `src/`.
    pub(crate) fn read(path: &str, text: &str) -> Self {
        let folders = path.trim_end_matches(".rs").split('/').filter(|part| *part != "mod");
        let mut source = Self { tokens: Vec::new(), depth: folders.count(), literals: Vec::new() };
        let chars: Vec<char> = text.chars().collect();
        let mut literals = Vec::new();
        let mut at = 0;
        while at < chars.len() {
            at = source.token(&chars, at, &mut literals);
        }
        source.drop_tests();
        // A literal is one token, `"` and its index, so that those of test code fall away with it.
        let kept = source.tokens.iter().filter_map(|t| t.strip_prefix('"')?.parse::<usize>().ok());
        source.literals = kept.map(|index| literals[index].clone()).collect();
        source
    }

    /// Takes one token from `at` on; the answer is where the next begins.
    fn token(&mut self, chars: &[char], at: usize, literals: &mut Vec<String>) -> usize {
        let rest = |n: usize| chars.get(at + n).copied().unwrap_or(' ');
        match chars[at] {
            '/' if rest(1) == '/' => line_end(chars, at),
            '/' if rest(1) == '*' => comment_end(chars, at),
            '"' => self.literal(chars, at + 1, None, literals),
            '\'' if rest(1) == '\\' => position(chars, at + 3, '\'') + 1,
            '\'' if rest(2) == '\'' => at + 3,
            c if c.is_alphanumeric() || c == '_' => {
                let end = (at..chars.len()).find(|&i| !(chars[i].is_alphanumeric() || chars[i] == '_'));
                let end = end.unwrap_or(chars.len());
                let word: String = chars[at..end].iter().collect();
                let hashes = chars[end..].iter().take_while(|c| **c == '#').count();
                let opens = chars.get(end + hashes) == Some(&'"');
                match word.as_str() {
                    "r" | "br" | "cr" if opens => {
                        self.literal(chars, end + hashes + 1, Some(hashes), literals)
                    }
                    "b" | "c" if opens && hashes == 0 => self.literal(chars, end + 1, None, literals),
                    _ => {
                        self.tokens.push(word);
                        end
                    }
                }
            }
            c => {
                if !c.is_whitespace() {
                    self.tokens.push(c.to_string());
                }
                at + 1
            }
        }
    }

    /// Takes a literal whose content begins at `at`; `raw` is its number of hashes.
    fn literal(
        &mut self,
        chars: &[char],
        at: usize,
        raw: Option<usize>,
        literals: &mut Vec<String>,
    ) -> usize {
        let mut end = at;
        while end < chars.len() {
            let closes = |n: usize| chars[end + 1..].iter().take(n).filter(|c| **c == '#').count() == n;
            match (chars[end], raw) {
                ('\\', None) => end += 1,
                ('"', None) => break,
                ('"', Some(hashes)) if closes(hashes) => break,
                _ => {}
            }
            end += 1;
        }
        self.tokens.push(format!("\"{}", literals.len()));
        literals.push(chars[at..end.min(chars.len())].iter().collect());
        end + 1 + raw.unwrap_or(0)
    }

    /// Takes out every item under `#[cfg(test)]`.
    fn drop_tests(&mut self) {
        let marker = ["#", "[", "cfg", "(", "test", ")", "]"];
        let mut kept = Vec::new();
        let mut at = 0;
        while at < self.tokens.len() {
            if self.tokens[at..].iter().take(marker.len()).eq(marker.iter()) {
                at = self.item_end(at + marker.len());
            } else {
                kept.push(self.tokens[at].clone());
                at += 1;
            }
        }
        self.tokens = kept;
    }

    /// Where the item ends that begins at `at`: after its `;` or its block.
    fn item_end(&self, at: usize) -> usize {
        let mut open = 0_usize;
        for (index, token) in self.tokens.iter().enumerate().skip(at) {
            match token.as_str() {
                "{" | "(" | "[" => open += 1,
                "}" | ")" | "]" => open = open.saturating_sub(1),
                _ => {}
            }
            if open == 0 && (token == ";" || token == "}") {
                return index + 1;
            }
        }
        self.tokens.len()
    }

    fn is(&self, at: usize, text: &str) -> bool {
        self.tokens.get(at).is_some_and(|t| t == text)
    }

    fn separator(&self, at: usize) -> bool {
        self.is(at, ":") && self.is(at + 1, ":")
    }

    /// The names at the top of the crate that some path leads to.
    pub(crate) fn modules(&self) -> BTreeSet<String> {
        let mut found = BTreeSet::new();
        for at in 0..self.tokens.len() {
            let root = self.is(at, "crate") || (self.is(at, "taskgrant") && self.begins(at));
            if root && self.separator(at + 1) {
                self.heads(at + 3, 0, &mut found);
            } else if self.is(at, "super") && self.begins(at) && self.separator(at + 1) {
                self.heads(at + 3, self.depth - 1, &mut found);
            }
        }
        found
    }

    /// Whether the token is the head of a path.
    fn begins(&self, at: usize) -> bool {
        at < 2 || !self.separator(at - 2)
    }

    /// Collects the heads of the path or braced list at `at`, once `up` further `super`s have been seen.
    fn heads(&self, at: usize, up: usize, found: &mut BTreeSet<String>) {
        if self.is(at, "{") {
            let mut open = 0_usize;
            for index in at..self.tokens.len() {
                match self.tokens[index].as_str() {
                    "{" => open += 1,
                    "}" => open -= 1,
                    _ => {}
                }
                if open == 0 {
                    return;
                }
                if open == 1 && (self.is(index, "{") || self.is(index, ",")) {
                    self.heads(index + 1, up, found);
                }
            }
        } else if self.is(at, "super") && self.separator(at + 1) {
            self.heads(at + 3, up.saturating_sub(1), found);
        } else if up == 0 {
            found.extend(self.tokens.get(at).cloned());
        }
    }

    /// The crates among `known` that some path begins with.
    pub(crate) fn crates(&self, known: &BTreeSet<String>) -> BTreeSet<String> {
        let named = |at: &usize| {
            let token = &self.tokens[*at];
            let absolute = *at < 3 || !is_word(&self.tokens[*at - 3]);
            let head = self.begins(*at) || absolute;
            let import = *at > 0 && (self.is(*at - 1, "use") || self.is(*at - 1, "crate"));
            known.contains(token) && head && (self.separator(*at + 1) || import)
        };
        (0..self.tokens.len()).filter(named).map(|at| self.tokens[at].clone()).collect()
    }
}

fn is_word(token: &str) -> bool {
    token.chars().all(|c| c.is_alphanumeric() || c == '_') && !["use", "return", "in", "as"].contains(&token)
        || token == ">"
}

fn line_end(chars: &[char], at: usize) -> usize {
    position(chars, at, '\n')
}

fn position(chars: &[char], at: usize, wanted: char) -> usize {
    (at..chars.len()).find(|&i| chars[i] == wanted).unwrap_or(chars.len())
}

/// Block comments nest.
fn comment_end(chars: &[char], at: usize) -> usize {
    let (mut open, mut index) = (0_usize, at);
    while index < chars.len() {
        match (chars[index], chars.get(index + 1)) {
            ('/', Some('*')) => (open, index) = (open + 1, index + 2),
            ('*', Some('/')) => (open, index) = (open - 1, index + 2),
            _ => index += 1,
        }
        if open == 0 {
            return index;
        }
    }
    chars.len()
}
