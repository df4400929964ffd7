//! User names that people can't tell apart: they differ only in case, width or look-alike letters.

use unicode_normalization::UnicodeNormalization as _;

use crate::protocol::UserName;

/// Two users whose names people can't tell apart.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the name {user} can't be told apart from {like}; use the same spelling for both")]
pub struct ConfusableNames {
    /// The later user.
    pub user: UserName,
    /// The user with the similar name.
    pub like: UserName,
}

/// Whether people can't tell the two names apart.
pub fn is_confusable(a: &UserName, b: &UserName) -> bool {
    let skeletons = name_skeletons(b);
    name_skeletons(a).iter().any(|skeleton| skeletons.contains(skeleton))
}

/// The skeletons (UTS #39) of a name, after NFKC (UAX #15), which removes width, and without case:
/// once of its lower-case form and once as it is spelled. Two names are confusable if they share a
/// skeleton: `ANA` is `ana` in lower case, and `biII` looks like `bill` as it is spelled.
pub fn name_skeletons(name: &UserName) -> [String; 2] {
    let spelled: String = name.as_str().nfkc().filter(|c| *c != ' ').collect();
    [spelled.to_lowercase(), spelled].map(|text| {
        let skeleton: String = unicode_security::skeleton(&text).collect();
        skeleton.to_lowercase()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_differ_in_case_width_or_look_alike_letters_are_confusable() {
        let confusable = |a: &str, b: &str| is_confusable(&UserName::clean(a), &UserName::clean(b));
        for (a, b) in
            [("ana", "ANA"), ("ana", "аnа"), ("ana", "ａｎａ"), ("bill", "biII"), ("pal", "раl")]
        {
            assert!(confusable(a, b) && confusable(b, a), "{a} {b}");
        }
        assert!(!confusable("ana", "anna"));
    }
}
