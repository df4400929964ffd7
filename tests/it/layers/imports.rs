//! Reads which file names items of which other file, from the tokens of the sources.
//!
//! Tokens are enough, and they show paths inside macros too, which a syntax tree doesn't. Comments and strings hold no
//! paths. Everything under `#[cfg(test)]` is left out, and so are files that only such a `mod` line declares.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use proc_macro2::{Delimiter, Group, TokenStream, TokenTree};

/// The name by which the binaries import the library.
const LIBRARY: &str = "secure_chat";

/// Sources by their path below `src/`, such as `net/dial.rs`.
pub type Files = BTreeMap<String, String>;

/// A path that a file mentions, in a `use` line or in code.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Mention {
    /// The file that mentions it.
    pub from: String,
    /// The path as it is written there: `crate::net::dial::Target`.
    pub path: String,
    /// The file of the module that the path names; none for another crate's.
    pub to: Option<String>,
    /// The line of `from`, from 1.
    pub line: usize,
}

/// Every path of two or more segments that the files mention outside tests.
///
/// `use` lines are flattened to one path per name. A path counts for the deepest module it names, so an item that a
/// `mod.rs` re-exports counts for that `mod.rs`.
pub fn mentions(files: &Files) -> Vec<Mention> {
    let tree = Tree::read(files);
    let mut mentions = Vec::new();
    for (file, paths) in &tree.paths {
        let scope = tree.scope(file, paths);
        for path in paths {
            mentions.push(Mention {
                from: file.clone(),
                path: path.segments.join("::"),
                to: tree.locate(file, path, &scope).map(|(module, _)| tree.files[&module].clone()),
                line: path.line,
            });
        }
    }
    mentions
}

/// Every file that the library consists of outside tests, and the binaries.
pub fn reachable(files: &Files) -> BTreeSet<String> {
    Tree::read(files).paths.into_keys().collect()
}

/// The items of a file other than `mod NAME;` and `use …;`, each by its first word.
pub fn other_items(text: &str) -> Vec<String> {
    let tokens: Vec<TokenTree> = lex("mod.rs", text).into_iter().collect();
    let mut others = Vec::new();
    let mut at = 0;
    while at < tokens.len() {
        match &tokens[at] {
            TokenTree::Ident(word) if *word == "pub" => at += 1,
            TokenTree::Ident(word) => {
                let is_inline = *word == "mod" && brace(tokens.get(at + 2)).is_some();
                if !["mod", "use"].iter().any(|allowed| word == allowed) || is_inline {
                    others.push(word.to_string());
                }
                at = end_of_item(&tokens, at);
            }
            _ => at += 1,
        }
    }
    others
}

/// The module path of a module: `["net", "dial"]`; empty for the library itself.
type Module = Vec<String>;

/// The modules of the library, and the paths in every file.
struct Tree {
    files: BTreeMap<Module, String>,
    paths: BTreeMap<String, Vec<Found>>,
}

/// A path in the tokens of a file.
struct Found {
    segments: Vec<String>,
    /// The module it stands in.
    module: Module,
    /// For a `use` line: the name that it brings into scope, `*` for all names of a module.
    brings: Option<String>,
    line: usize,
}

/// What a name at the start of a path stands for, by the module it is used in.
type Scope = BTreeMap<(Module, String), Module>;

impl Tree {
    fn read(files: &Files) -> Tree {
        let mut tree = Tree { files: BTreeMap::new(), paths: BTreeMap::new() };
        let mut waiting = vec![(Vec::new(), "lib.rs".to_owned())];
        for binary in files.keys().filter(|file| file.starts_with("bin/")) {
            waiting.push((vec![binary.clone()], binary.clone()));
        }
        while let Some((module, file)) = waiting.pop() {
            let text = files.get(&file).unwrap_or_else(|| panic!("no src/{file}"));
            let mut scan = Scan::default();
            scan.tokens(lex(&file, text), &module);
            tree.files.insert(module, file.clone());
            for inline in scan.inline {
                tree.files.insert(inline, file.clone());
            }
            for declared in scan.declared {
                let beside = declared.join("/") + ".rs";
                let below = declared.join("/") + "/mod.rs";
                let file = if files.contains_key(&beside) { beside } else { below };
                waiting.push((declared, file));
            }
            tree.paths.insert(file, scan.found);
        }
        tree
    }

    /// The names that the `use` lines of a file give to modules. Twice, for those that start with such a name.
    fn scope(&self, file: &str, paths: &[Found]) -> Scope {
        let mut scope = Scope::new();
        for path in paths.iter().chain(paths) {
            let Some(name) = &path.brings else { continue };
            let Some((module, whole)) = self.locate(file, path, &scope) else { continue };
            if !whole {
                continue;
            }
            if name == "*" {
                let children: Vec<Module> = self.children(&module).cloned().collect();
                for child in children {
                    let name = child.last().unwrap().clone();
                    scope.insert((path.module.clone(), name), child);
                }
            } else {
                scope.insert((path.module.clone(), name.clone()), module);
            }
        }
        scope
    }

    fn children(&self, module: &Module) -> impl Iterator<Item = &Module> {
        let depth = module.len() + 1;
        self.files.keys().filter(move |other| other.len() == depth && other.starts_with(module))
    }

    /// The deepest module that a path names, and whether the whole path is that module.
    fn locate(&self, file: &str, path: &Found, scope: &Scope) -> Option<(Module, bool)> {
        let mut rest = &path.segments[..];
        let (first, after) = rest.split_first()?;
        let mut at = match &first[..] {
            "crate" if file.starts_with("bin/") => return None,
            "crate" => Vec::new(),
            LIBRARY if file.starts_with("bin/") => Vec::new(),
            "self" => path.module.clone(),
            "super" => {
                let mut at = path.module.clone();
                at.pop();
                at
            }
            name => {
                let child = [&path.module[..], &[name.to_owned()]].concat();
                let named = scope.get(&(path.module.clone(), name.to_owned()));
                if self.files.contains_key(&child) { child } else { named?.clone() }
            }
        };
        rest = after;
        while let Some((next, after)) = rest.split_first() {
            if next == "super" {
                at.pop();
            } else {
                at.push(next.clone());
                if !self.files.contains_key(&at) {
                    at.pop();
                    return Some((at, false));
                }
            }
            rest = after;
        }
        Some((at, true))
    }
}

/// Walks the tokens of one file.
#[derive(Default)]
struct Scan {
    found: Vec<Found>,
    /// Modules in files of their own.
    declared: Vec<Module>,
    /// Modules within this file.
    inline: Vec<Module>,
}

impl Scan {
    fn tokens(&mut self, tokens: TokenStream, module: &Module) {
        let tokens: Vec<TokenTree> = tokens.into_iter().collect();
        let mut at = 0;
        while at < tokens.len() {
            at = match &tokens[at] {
                TokenTree::Punct(punct)
                    if punct.as_char() == '#' && is_test(tokens.get(at + 1)) =>
                {
                    end_of_item(&tokens, at + 2)
                }
                TokenTree::Ident(word) if *word == "use" && !is_punct(tokens.get(at + 1), '<') => {
                    let end = end_of_item(&tokens, at);
                    self.use_tree(&tokens[at + 1..end], Vec::new(), module);
                    end
                }
                TokenTree::Ident(word) if *word == "mod" => self.module(&tokens, at, module),
                // `pub(in crate::net)` imports nothing.
                TokenTree::Ident(word) if *word == "pub" && is_visibility(tokens.get(at + 1)) => {
                    at + 2
                }
                TokenTree::Ident(_) => self.path(&tokens, at, module),
                TokenTree::Group(group) => {
                    self.tokens(group.stream(), module);
                    at + 1
                }
                _ => at + 1,
            }
        }
    }

    /// `mod name;` or `mod name { … }`; gives the position after it.
    fn module(&mut self, tokens: &[TokenTree], at: usize, module: &Module) -> usize {
        let Some(TokenTree::Ident(name)) = tokens.get(at + 1) else { return at + 1 };
        let child = [&module[..], &[name.to_string()]].concat();
        if let Some(body) = brace(tokens.get(at + 2)) {
            self.inline.push(child.clone());
            self.tokens(body.stream(), &child);
        } else {
            self.declared.push(child);
        }
        at + 3
    }

    /// `a::b::c`; gives the position after it.
    fn path(&mut self, tokens: &[TokenTree], start: usize, module: &Module) -> usize {
        let mut at = start + 1;
        let mut segments = vec![tokens[start].to_string()];
        while is_punct(tokens.get(at), ':') && is_punct(tokens.get(at + 1), ':') {
            let Some(TokenTree::Ident(next)) = tokens.get(at + 2) else { break };
            segments.push(next.to_string());
            at += 3;
        }
        // A path that goes on after `>` or starts with `::` is another crate's or counted already.
        let goes_on = start >= 2
            && is_punct(tokens.get(start - 1), ':')
            && is_punct(tokens.get(start - 2), ':');
        if segments.len() > 1 && !goes_on {
            let line = tokens[start].span().start().line;
            self.found.push(Found { segments, module: module.clone(), brings: None, line });
        }
        at
    }

    /// Flattens the tree of one `use` line to one path per name.
    fn use_tree(&mut self, tokens: &[TokenTree], mut segments: Vec<String>, module: &Module) {
        let Some(first) = tokens.first() else { return };
        let line = first.span().start().line;
        let mut brings = None;
        for (at, token) in tokens.iter().enumerate() {
            match token {
                TokenTree::Ident(word) if *word == "as" => {
                    brings = tokens.get(at + 1).map(ToString::to_string);
                    break;
                }
                TokenTree::Ident(word) => segments.push(word.to_string()),
                TokenTree::Group(group) => {
                    let inner: Vec<TokenTree> = group.stream().into_iter().collect();
                    for part in inner.split(|token| is_punct(Some(token), ',')) {
                        self.use_tree(part, segments.clone(), module);
                    }
                    return;
                }
                TokenTree::Punct(punct) if punct.as_char() == '*' => brings = Some("*".to_owned()),
                _ => {}
            }
        }
        if segments.len() > 1 && segments.last().is_some_and(|last| last == "self") {
            segments.pop();
        }
        let brings = brings.or_else(|| segments.last().cloned());
        self.found.push(Found { segments, module: module.clone(), brings, line });
    }
}

fn lex(file: &str, text: &str) -> TokenStream {
    text.parse().unwrap_or_else(|error| panic!("src/{file}: {error}"))
}

/// The position after the item that starts at `at`: after its `;`, or its body in braces.
fn end_of_item(tokens: &[TokenTree], at: usize) -> usize {
    let is_use = tokens[at..]
        .iter()
        .take(3)
        .any(|token| matches!(token, TokenTree::Ident(word) if *word == "use"));
    let ends =
        |token: &TokenTree| is_punct(Some(token), ';') || (!is_use && brace(Some(token)).is_some());
    tokens[at..].iter().position(ends).map_or(tokens.len(), |length| at + length + 1)
}

fn is_punct(token: Option<&TokenTree>, wanted: char) -> bool {
    matches!(token, Some(TokenTree::Punct(punct)) if punct.as_char() == wanted)
}

fn brace(token: Option<&TokenTree>) -> Option<&Group> {
    match token {
        Some(TokenTree::Group(group)) if group.delimiter() == Delimiter::Brace => Some(group),
        _ => None,
    }
}

/// `[cfg(test)]`, or `[cfg(all(test, …))]`.
fn is_test(token: Option<&TokenTree>) -> bool {
    let Some(TokenTree::Group(group)) = token else { return false };
    let text: String = group.stream().to_string().split_whitespace().collect();
    text == "cfg(test)" || text.starts_with("cfg(all(test,")
}

/// `(crate)`, `(super)`, `(self)` or `(in …)`.
fn is_visibility(token: Option<&TokenTree>) -> bool {
    let Some(TokenTree::Group(group)) = token else { return false };
    let first =
        group.stream().into_iter().next().map(|token| token.to_string()).unwrap_or_default();
    group.delimiter() == Delimiter::Parenthesis
        && ["crate", "super", "self", "in"].contains(&&first[..])
}

/// Reads every Rust file below a folder.
pub fn read(folder: &Path) -> Files {
    let mut files = Files::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(next) = folders.pop() {
        for entry in std::fs::read_dir(next).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let name = path.strip_prefix(folder).unwrap().to_str().unwrap().to_owned();
                files.insert(name, std::fs::read_to_string(&path).unwrap());
            }
        }
    }
    files
}
