//! Texts that somebody else wrote and people read: nothing in them may steer a terminal or change how others look.

/// Whether `c` shows as itself: no control, and none of the invisible characters that turn the direction of what
/// follows, join it, or hide in it (Unicode's categories Cc, Cf, Zl and Zp).
#[must_use]
pub fn is_plain(c: char) -> bool {
    !c.is_control()
        && !matches!(c,
            '\u{ad}' | '\u{600}'..='\u{605}' | '\u{61c}' | '\u{6dd}' | '\u{70f}' | '\u{890}'..='\u{891}' | '\u{8e2}'
            | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}'
            | '\u{fff9}'..='\u{fffb}' | '\u{110bd}' | '\u{110cd}' | '\u{13430}'..='\u{1343f}'
            | '\u{1bca0}'..='\u{1bca3}' | '\u{1d173}'..='\u{1d17a}' | '\u{e0000}'..='\u{e007f}')
}

/// `text` with a `?` for every character that is not plain, and cut to `most` bytes.
#[must_use]
pub fn plain(text: &str, most: usize) -> String {
    let mut made = String::new();
    for c in text.chars().map(|c| if is_plain(c) { c } else { '?' }) {
        if made.len().saturating_add(c.len_utf8()) > most {
            break;
        }
        made.push(c);
    }
    made
}

#[cfg(test)]
mod tests {
    use super::plain;

    #[test]
    fn what_is_seen_is_what_is_there() {
        // A name that would be shown as user/nimda.
        assert_eq!(plain("user/\u{202e}admin\u{202c}", 99), "user/?admin?");
        assert_eq!(plain("a\u{1b}[2J\n\u{2066}\u{feff}\u{200b}b", 99), "a?[2J????b");
        assert_eq!(plain("Zoë Ærø ﻉمر 日本 😀", 99), "Zoë Ærø ﻉمر 日本 😀");
        assert_eq!((plain("äää", 5).as_str(), plain("x", 0).as_str()), ("ää", ""));
    }
}
