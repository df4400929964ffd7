//! Finds circles of imports between files.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::imports::Mention;

/// Every circle as lines of text, one line per import with the names that tie the two files. Each import that lies on a
/// circle is shown in the shortest one.
pub fn circles(mentions: &[Mention]) -> Vec<String> {
    let mut names: BTreeMap<(&str, &str), BTreeSet<String>> = BTreeMap::new();
    for mention in mentions {
        let Some(to) = &mention.to else { continue };
        if *to != mention.from {
            let name = format!("{} (line {})", mention.path, mention.line);
            names.entry((&mention.from, to)).or_default().insert(name);
        }
    }
    let mut circles: BTreeSet<(usize, Vec<&str>)> = BTreeSet::new();
    for (from, to) in names.keys() {
        if let Some(mut circle) = shortest(&names, to, from) {
            let first = circle.iter().enumerate().min_by_key(|(_, file)| **file).unwrap().0;
            circle.rotate_left(first);
            circles.insert((circle.len(), circle));
        }
    }
    let show = |(_, circle): &(usize, Vec<&str>)| {
        let next = circle.iter().cycle().skip(1);
        let ties = circle.iter().zip(next).map(|(from, to)| {
            let names: Vec<&str> = names[&(*from, *to)].iter().map(String::as_str).collect();
            format!("{from} → {to}: {}", names.join(", "))
        });
        ties.collect::<Vec<String>>().join("\n")
    };
    circles.iter().map(show).collect()
}

/// The files on a shortest way from one file to another along imports, both included.
fn shortest<'a>(
    imports: &BTreeMap<(&'a str, &'a str), BTreeSet<String>>,
    from: &'a str,
    to: &'a str,
) -> Option<Vec<&'a str>> {
    let mut came_from: BTreeMap<&str, &str> = BTreeMap::from([(from, from)]);
    let mut waiting = VecDeque::from([from]);
    while let Some(file) = waiting.pop_front() {
        if file == to {
            let mut way = vec![to];
            while *way.last().unwrap() != from {
                way.push(came_from[way.last().unwrap()]);
            }
            way.reverse();
            return Some(way);
        }
        for (_, next) in imports.keys().filter(|(start, _)| *start == file) {
            if !came_from.contains_key(next) {
                came_from.insert(next, file);
                waiting.push_back(next);
            }
        }
    }
    None
}
