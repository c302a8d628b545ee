//! What the log tells.

use serde_json::Value;
use taskgrant::domain::decision::{Outcome, Record};
use taskgrant::store::change::{Committed, Loss};

use super::on_both;

#[tokio::test]
async fn an_issue_that_loses_is_told_as_its_own_refusal() {
    on_both(async |d| {
        let orphan = d.child(&d.root());
        let answer = d.submit(orphan.clone()).await.unwrap();
        let Committed::Lost(Loss::ParentUnknown, receipt) = answer else { panic!("{answer:?}") };
        assert_eq!((receipt.index, receipt.decision_id), (0, orphan.decision.id));
        let stored = d.store.decision(orphan.decision.id).await.unwrap().unwrap();
        let leaf: Value = serde_json::from_slice(&stored.leaf).unwrap();
        assert_eq!((&leaf["outcome"], &leaf["reasons"]), (&"deny".into(), &vec!["parent_unknown"].into()));
        let record: Record = serde_json::from_slice(&stored.record.unwrap()).unwrap();
        assert_eq!((record.jti, &record.granted), (None, &Value::Null));
        assert_eq!(record.reasons[0].message, "the parent token has no record");
        assert_eq!(stored.input, orphan.decision.input, "what policy saw stays with the refusal");
    })
    .await;
}

#[tokio::test]
async fn a_decision_comes_back_with_its_three_parts_and_two_of_them_can_be_erased() {
    on_both(async |d| {
        let mut silent = d.refusal();
        silent.input = None;
        d.done(d.refusal()).await;
        assert_eq!(d.done(silent.clone()).await.index, 1);
        let stored = d.store.decision(silent.id).await.unwrap().unwrap();
        assert_eq!((stored.index, stored.input), (1, None));
        let record: Record = serde_json::from_slice(&stored.record.unwrap()).unwrap();
        assert_eq!(record, silent.record);
        assert_eq!(silent.outcome, Outcome::Deny);

        let told = d.refusal();
        d.done(told.clone()).await;
        let mut raw = d.raw().await;
        raw.execute("CREATE TABLE away AS SELECT * FROM decision_records WHERE idx = 2").await;
        raw.execute("DELETE FROM decision_records WHERE idx = 2").await;
        let erased = d.store.decision(told.id).await.unwrap().unwrap();
        assert_eq!((erased.salt, erased.record, erased.input), (None, None, told.input));
        raw.execute("INSERT INTO decision_records SELECT * FROM away").await;
        assert_eq!(d.store.decision(d.refusal().id).await.unwrap(), None);
    })
    .await;
}
