//! The chain of actors (RFC 8693 §4.1): the server builds it, history is only ever appended to (L6).

use serde::{Deserialize, Serialize};
use serde_json::Value;
use thiserror::Error;

/// Most actors a chain may hold; the tree of tokens is bounded to the same height.
pub const MAX_CHAIN: usize = 16;

/// One party that acts or acted: identity claims only, never `exp`, `nbf` or `aud` (TX-12).
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Actor {
    /// The client id of an agent of ours, or a foreign actor's subject.
    pub sub: String,
    /// Who knows `sub`: our issuer for our agents, the upstream issuer for a foreign actor.
    pub iss: String,
    /// The proved instance of the agent, if one was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instance: Option<String>,
}

/// Why a chain cannot be read or extended.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum BadChain {
    /// `act` is not an object with a `sub`, or a nested one is not (TX-12).
    #[error("`act` is not an object with a string `sub`")]
    Malformed,
    /// More actors than [`MAX_CHAIN`] (T21).
    #[error("the actor chain is longer than {MAX_CHAIN}")]
    TooLong,
    /// The agent is in the chain already (T21).
    #[error("the agent acts in this chain already")]
    Repeated,
}

/// Actors from the current one (first) to the earliest (last). Never empty, never longer than [`MAX_CHAIN`].
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Chain {
    current: Actor,
    earlier: Vec<Actor>,
}

impl Chain {
    /// The chain of a root token: `agent` acts, on top of what the session token itself told of actors. An agent
    /// that is among these already is refused (T21).
    pub fn root(agent: Actor, foreign: Vec<Actor>) -> Result<Self, BadChain> {
        if foreign.iter().any(|a| a.sub == agent.sub && a.iss == agent.iss) {
            return Err(BadChain::Repeated);
        }
        if foreign.len() >= MAX_CHAIN {
            return Err(BadChain::TooLong);
        }
        Ok(Self { current: agent, earlier: foreign })
    }

    /// Nests the chain once under `agent` (TX-13); an agent that is in it already is refused (T21).
    pub fn hand_over(&self, agent: Actor) -> Result<Self, BadChain> {
        if self.actors().any(|a| a.sub == agent.sub && a.iss == agent.iss) {
            return Err(BadChain::Repeated);
        }
        if self.len() >= MAX_CHAIN {
            return Err(BadChain::TooLong);
        }
        Ok(Self { current: agent, earlier: self.actors().cloned().collect() })
    }

    /// The same chain with `instance` proved for the current actor, who had none.
    pub fn with_instance(&self, instance: String) -> Self {
        Self {
            current: Actor { instance: Some(instance), ..self.current.clone() },
            earlier: self.earlier.clone(),
        }
    }

    /// The current actor: the only one that access decisions may use (TX-14).
    pub fn current(&self) -> &Actor {
        &self.current
    }

    /// All actors, the current one first.
    pub fn actors(&self) -> impl Iterator<Item = &Actor> {
        std::iter::once(&self.current).chain(&self.earlier)
    }

    /// Number of actors, at least 1.
    #[expect(clippy::len_without_is_empty, reason = "a chain is never empty")]
    pub fn len(&self) -> usize {
        1 + self.earlier.len()
    }

    /// Whether `self` is `parent` unchanged, or `parent` with an instance proved for its current actor.
    pub fn continues(&self, parent: &Self) -> bool {
        let instance_kept =
            parent.current.instance.is_none() || self.current.instance == parent.current.instance;
        self.current.sub == parent.current.sub
            && self.current.iss == parent.current.iss
            && instance_kept
            && self.earlier == parent.earlier
    }

    /// Whether `self` is `parent` nested once under another actor.
    pub fn extends(&self, parent: &Self) -> bool {
        self.earlier.iter().eq(parent.actors())
    }

    /// As the nested `act` object of RFC 8693 §4.1.
    pub fn to_json(&self) -> Value {
        let mut nested: Option<Value> = None;
        for actor in self.earlier.iter().rev().chain(std::iter::once(&self.current)) {
            let mut object = serde_json::Map::new();
            object.insert("sub".to_owned(), Value::String(actor.sub.clone()));
            object.insert("iss".to_owned(), Value::String(actor.iss.clone()));
            if let Some(instance) = &actor.instance {
                object.insert("instance".to_owned(), Value::String(instance.clone()));
            }
            if let Some(inner) = nested.take() {
                object.insert("act".to_owned(), inner);
            }
            nested = Some(Value::Object(object));
        }
        nested.unwrap_or_default()
    }

    /// Reads the `act` of one of our own tokens.
    pub fn from_json(act: &Value) -> Result<Self, BadChain> {
        let mut actors = read_actors(act, None)?.into_iter();
        let current = actors.next().ok_or(BadChain::Malformed)?;
        Ok(Self { current, earlier: actors.collect() })
    }
}

/// Reads the `act` of a session token: each actor keeps its own `iss`, or gets the token's (T16).
///
/// Members other than `sub`, `iss` and `act` are dropped: `exp`, `nbf`, `aud` mean nothing there (TX-12).
pub fn foreign_actors(act: &Value, issuer: &str) -> Result<Vec<Actor>, BadChain> {
    let actors = read_actors(act, Some(issuer))?;
    Ok(actors.into_iter().map(|a| Actor { instance: None, ..a }).collect())
}

/// Walks the nesting without recursion, outermost first; `default_iss` stands in for a missing `iss`.
fn read_actors(act: &Value, default_iss: Option<&str>) -> Result<Vec<Actor>, BadChain> {
    let mut actors = Vec::new();
    let mut next = Some(act);
    while let Some(value) = next {
        if actors.len() >= MAX_CHAIN {
            return Err(BadChain::TooLong);
        }
        let object = value.as_object().ok_or(BadChain::Malformed)?;
        let text = |key: &str| match object.get(key) {
            None => Ok(None),
            Some(Value::String(text)) if !text.is_empty() && text.len() <= 1024 => Ok(Some(text.clone())),
            Some(_) => Err(BadChain::Malformed),
        };
        let sub = text("sub")?.ok_or(BadChain::Malformed)?;
        let iss = text("iss")?.or(default_iss.map(str::to_owned)).ok_or(BadChain::Malformed)?;
        actors.push(Actor { sub, iss, instance: text("instance")? });
        next = object.get("act");
    }
    Ok(actors)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn agent(sub: &str) -> Actor {
        Actor { sub: sub.into(), iss: "https://tg.example".into(), instance: None }
    }

    #[test]
    fn tx_13_the_outermost_actor_is_the_current_one() {
        let chain = Chain::root(agent("a"), vec![]).unwrap().hand_over(agent("b")).unwrap();
        let iss = "https://tg.example";
        assert_eq!(chain.to_json(), json!({"sub": "b", "iss": iss, "act": {"sub": "a", "iss": iss}}));
        assert_eq!(Chain::from_json(&chain.to_json()).unwrap(), chain);
    }

    #[test]
    fn t21_a_repeated_actor_and_a_long_chain_are_refused() {
        let chain = Chain::root(agent("a"), vec![]).unwrap();
        assert_eq!(chain.hand_over(agent("a")), Err(BadChain::Repeated));
        assert_eq!(Chain::root(agent("a"), vec![agent("b"), agent("a")]), Err(BadChain::Repeated));
        let mut long = chain;
        for index in 1..MAX_CHAIN {
            long = long.hand_over(agent(&format!("n{index}"))).unwrap();
        }
        assert_eq!(long.hand_over(agent("z")), Err(BadChain::TooLong));
    }

    #[test]
    fn tx_12_a_malformed_act_is_refused_and_times_in_it_are_dropped() {
        for bad in [json!("a"), json!({}), json!({"sub": 1}), json!({"sub": "a", "act": "b"}), json!([])] {
            assert_eq!(foreign_actors(&bad, "https://idp"), Err(BadChain::Malformed), "{bad}");
        }
        let read = foreign_actors(&json!({"sub": "a", "exp": 1, "aud": "x", "instance": "i"}), "https://idp")
            .unwrap();
        assert_eq!(read, [Actor { sub: "a".into(), iss: "https://idp".into(), instance: None }]);
    }

    #[test]
    fn a_deep_act_is_refused_without_recursion() {
        let mut act = json!({"sub": "x"});
        for _ in 0..100 {
            act = json!({"sub": "x", "act": act});
        }
        assert_eq!(foreign_actors(&act, "https://idp"), Err(BadChain::TooLong));
    }
}
