//! The chain of actors: L6, TX-12 to TX-17, T15, T16, T21.

use proptest::prelude::*;
use proptest::sample::select;
use serde_json::{Value, json};
use taskgrant::domain::chain::{Actor, BadChain, Chain, MAX_CHAIN, foreign_actors};

use crate::world::any_json;

const OURS: &str = "https://tg.example";

fn ours(sub: &str) -> Actor {
    Actor { sub: sub.to_owned(), iss: OURS.to_owned(), instance: None }
}

fn foreign() -> impl Strategy<Value = Actor> {
    (select(vec!["a", "b", "f"]), select(vec!["https://idp.example", "https://other.example"]))
        .prop_map(|(sub, iss)| Actor { sub: sub.to_owned(), iss: iss.to_owned(), instance: None })
}

/// A chain with foreign history, hand-overs among few agents, and some proved instances.
fn chain() -> impl Strategy<Value = Chain> {
    let hops = proptest::collection::vec((0..20_u8, any::<bool>()), 0..18);
    (proptest::collection::vec(foreign(), 0..4), hops).prop_map(|(foreign, hops)| {
        let mut chain = Chain::root(ours("root"), foreign).unwrap();
        for (agent, proved) in hops {
            if proved && chain.current().instance.is_none() {
                chain = chain.with_instance(format!("i{agent}"));
            }
            chain = chain.hand_over(ours(&format!("n{agent}"))).unwrap_or(chain);
        }
        chain
    })
}

fn list(chain: &Chain) -> Vec<Actor> {
    chain.actors().cloned().collect()
}

/// Model of `act`: written from the innermost actor outwards.
fn nested(actors: &[Actor]) -> Value {
    actors.iter().rev().fold(Value::Null, |inner, actor| {
        let mut act = json!({"sub": actor.sub, "iss": actor.iss});
        if let Some(instance) = &actor.instance {
            act["instance"] = json!(instance);
        }
        if !inner.is_null() {
            act["act"] = inner;
        }
        act
    })
}

proptest! {
    #[test]
    fn l6_a_hand_over_adds_one_actor_and_changes_none(chain in chain(), to in 0..24_u8) {
        let before = list(&chain);
        let agent = ours(&format!("n{to}"));
        match chain.hand_over(agent.clone()) {
            Ok(after) => {
                prop_assert!(before.iter().all(|a| a.sub != agent.sub || a.iss != OURS), "T21");
                let expected: Vec<Actor> = std::iter::once(agent).chain(before).collect();
                prop_assert_eq!(list(&after), expected);
                prop_assert_eq!(after.len(), chain.len() + 1);
                prop_assert!(after.extends(&chain) && !after.continues(&chain));
            }
            Err(BadChain::Repeated) => prop_assert!(before.iter().any(|a| a.sub == agent.sub && a.iss == OURS)),
            Err(bad) => {
                prop_assert_eq!(bad, BadChain::TooLong);
                prop_assert_eq!(before.len(), MAX_CHAIN);
            }
        }
    }

    #[test]
    fn l6_a_proved_instance_changes_the_current_actor_only(chain in chain(), instance in "[a-z]{1,4}") {
        let proved = chain.with_instance(instance.clone());
        prop_assert_eq!(proved.current().instance.as_ref(), Some(&instance));
        prop_assert_eq!(&list(&proved)[1..], &list(&chain)[1..]);
        let kept = chain.current().instance.is_none() || chain.current().instance.as_ref() == Some(&instance);
        prop_assert_eq!(proved.continues(&chain), kept);
        prop_assert_eq!(chain.continues(&proved), proved == chain, "an instance is never dropped");
    }

    #[test]
    fn t15_no_chain_continues_or_extends_another_by_chance(one in chain(), other in chain()) {
        let (a, b) = (list(&one), list(&other));
        prop_assert_eq!(one.extends(&other), a[1..] == b[..]);
        let kept = b[0].instance.is_none() || a[0].instance == b[0].instance;
        prop_assert_eq!(one.continues(&other), a[0].sub == b[0].sub && a[0].iss == b[0].iss && kept && a[1..] == b[1..]);
    }

    #[test]
    fn tx_13_a_chain_is_read_as_it_is_printed_outermost_first(chain in chain()) {
        prop_assert_eq!(chain.to_json(), nested(&list(&chain)));
        prop_assert_eq!(Chain::from_json(&chain.to_json()).unwrap(), chain);
    }

    #[test]
    fn t21_a_deep_act_is_refused_and_a_shallow_one_is_kept_in_order(subs in proptest::collection::vec("[a-z]{1,8}", 1..24)) {
        let actors: Vec<Actor> = subs.iter().map(|s| Actor { sub: s.clone(), iss: "https://idp.example".to_owned(), instance: None }).collect();
        let read = foreign_actors(&nested(&actors), "https://tok.example");
        if actors.len() <= MAX_CHAIN {
            prop_assert_eq!(read, Ok(actors.clone()));
        } else {
            prop_assert_eq!(read, Err(BadChain::TooLong));
        }
        let root = Chain::root(ours("root"), actors.clone());
        prop_assert_eq!(root.is_ok(), actors.len() < MAX_CHAIN);
    }

    #[test]
    fn t16_a_foreign_actor_keeps_its_issuer_or_takes_the_tokens(actors in proptest::collection::vec((foreign(), any::<bool>()), 1..6)) {
        let mut act = Value::Null;
        for (actor, named) in actors.iter().rev() {
            let mut object = json!({"sub": actor.sub, "exp": 1, "nbf": "x", "aud": ["y"], "instance": "forged"});
            if *named {
                object["iss"] = json!(actor.iss);
            }
            if !act.is_null() {
                object["act"] = act;
            }
            act = object;
        }
        let issuer = "https://token.example";
        let expected: Vec<Actor> = actors.iter().map(|(a, named)| Actor {
            iss: if *named { a.iss.clone() } else { issuer.to_owned() }, ..a.clone()
        }).collect();
        prop_assert_eq!(foreign_actors(&act, issuer), Ok(expected));
    }

    #[test]
    fn t21_an_agent_in_the_session_chain_starts_no_root(at in 0..4_usize, history in proptest::collection::vec(foreign(), 0..4)) {
        let mut history = history;
        history.insert(at.min(history.len()), ours("root"));
        prop_assert_eq!(Chain::root(ours("root"), history), Err(BadChain::Repeated));
    }

    #[test]
    fn any_json_is_a_chain_that_prints_back_or_is_refused(value in any_json(), inner in any_json()) {
        let wrapped = json!({"sub": "a", "iss": OURS, "act": inner});
        for act in [value, wrapped] {
            if let Ok(chain) = Chain::from_json(&act) {
                prop_assert!((1..=MAX_CHAIN).contains(&chain.len()));
                prop_assert_eq!(Chain::from_json(&chain.to_json()).unwrap(), chain);
            }
            if let Ok(actors) = foreign_actors(&act, "https://idp.example") {
                prop_assert!(actors.iter().all(|a| !a.sub.is_empty() && !a.iss.is_empty() && a.instance.is_none()));
            }
        }
    }
}
