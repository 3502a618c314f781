//! Posts: what the accounts of the platform have said, and the rules for saying it.
//!
//! Holds the newest posts up to a bound and counts them all. Never asks who may post: that is the API's part.

use std::collections::{BTreeMap, HashMap};

/// How much a post may weigh (X, "Counting characters").
pub(crate) const HEAVIEST: usize = 280;

/// A post.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Post {
    /// Decimal, greater than that of every earlier post.
    pub id: String,
    /// The id of the account that wrote it.
    pub author_id: String,
    /// The handle of the account that wrote it.
    pub author: String,
    /// What it says.
    pub text: String,
    /// The id of the post that it answers.
    pub reply_to: Option<String>,
    /// The id of the post that began the conversation: its own, if it answers none.
    pub conversation_id: String,
    /// When it was written, in milliseconds since 1970.
    pub created_ms: u64,
    /// How many posts that still exist answer it.
    pub replies: u64,
}

/// The weight of a text: Latin and its neighbours weigh one a character, everything else two. Addresses weigh as they are
/// written, where X counts 23 for each.
pub(crate) fn weight(text: &str) -> usize {
    text.chars()
        .map(|letter| match u32::from(letter) {
            0..=4351 | 8192..=8205 | 8208..=8223 | 8242..=8247 => 1,
            _ => 2,
        })
        .sum()
}

/// All posts.
#[derive(Debug)]
pub(crate) struct Posts {
    by_id: BTreeMap<u64, Post>,
    written: HashMap<String, u64>,
    most: usize,
    last_id: u64,
}

impl Posts {
    /// Keeps up to `most` posts; the oldest go first.
    pub(crate) fn new(most: usize) -> Self {
        Self { by_id: BTreeMap::new(), written: HashMap::new(), most: most.max(1), last_id: 0 }
    }

    /// An id in X's form: milliseconds since 2010-11-04 in the upper bits, always growing.
    pub(crate) fn next_id(&mut self, now_ms: u64) -> u64 {
        self.last_id = (now_ms.saturating_sub(1_288_834_974_657) << 22).max(self.last_id + 1);
        self.last_id
    }

    /// Writes a post. `None` where the post that it answers does not exist.
    pub(crate) fn write(
        &mut self,
        author_id: &str,
        author: &str,
        text: String,
        reply_to: Option<u64>,
        now_ms: u64,
    ) -> Option<Post> {
        let conversation = match reply_to {
            None => None,
            Some(parent) => {
                let parent = self.by_id.get_mut(&parent)?;
                parent.replies += 1;
                Some(parent.conversation_id.clone())
            }
        };
        let id = self.next_id(now_ms);
        let post = Post {
            id: id.to_string(),
            author_id: author_id.to_owned(),
            author: author.to_owned(),
            text,
            reply_to: reply_to.map(|id| id.to_string()),
            conversation_id: conversation.unwrap_or_else(|| id.to_string()),
            created_ms: now_ms,
            replies: 0,
        };
        self.by_id.insert(id, post.clone());
        *self.written.entry(author_id.to_owned()).or_default() += 1;
        while self.by_id.len() > self.most {
            self.by_id.pop_first();
        }
        Some(post)
    }

    pub(crate) fn get(&self, id: u64) -> Option<&Post> {
        self.by_id.get(&id)
    }

    pub(crate) fn remove(&mut self, id: u64) {
        let parent = self.by_id.remove(&id).and_then(|post| post.reply_to);
        if let Some(parent) = parent.and_then(|id| id.parse().ok()).and_then(|id: u64| self.by_id.get_mut(&id)) {
            parent.replies = parent.replies.saturating_sub(1);
        }
    }

    /// Oldest first.
    pub(crate) fn all(&self) -> impl DoubleEndedIterator<Item = &Post> {
        self.by_id.values()
    }

    /// How many posts the account ever wrote, deleted and forgotten ones included.
    pub(crate) fn written_by(&self, author_id: &str) -> u64 {
        self.written.get(author_id).copied().unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_weigh_as_x_weighs_them() {
        for (text, expected) in [("", 0), ("hello", 5), ("é", 1), ("日本", 4), ("🙂", 2), ("a\u{2019}b", 3)] {
            assert_eq!(weight(text), expected, "{text}");
        }
    }

    #[test]
    fn replies_need_their_parent_and_are_counted_with_it() {
        let mut posts = Posts::new(10);
        let first = posts.write("1", "a", "hello".into(), None, 0).unwrap();
        let id: u64 = first.id.parse().unwrap();
        let reply = posts.write("2", "b", "hello yourself".into(), Some(id), 0).unwrap();
        assert_eq!(reply.conversation_id, first.id);
        assert_eq!(posts.get(id).unwrap().replies, 1);
        posts.remove(reply.id.parse().unwrap());
        assert_eq!(posts.get(id).unwrap().replies, 0);
        assert_eq!(posts.write("2", "b", "to nobody".into(), Some(99), 0), None);
        assert_eq!(posts.written_by("2"), 1);
    }

    #[test]
    fn the_oldest_posts_go_and_the_count_stays() {
        let mut posts = Posts::new(2);
        for text in ["one", "two", "three"] {
            posts.write("1", "a", text.into(), None, 0).unwrap();
        }
        let texts: Vec<_> = posts.all().map(|post| post.text.as_str()).collect();
        assert_eq!(texts, ["two", "three"]);
        assert_eq!(posts.written_by("1"), 3);
    }
}
