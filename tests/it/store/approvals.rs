//! Lists of approvals: whoever goes on behind the last one has seen each of them once.

use chrono::{DateTime, TimeDelta, Utc};
use taskgrant::clock::Clock as _;
use taskgrant::domain::approval::Approval;
use taskgrant::domain::ids::{ApprovalId, Name};
use taskgrant::store::change::{Defer, Issue};

use super::{Deployment, on_both};

/// One that ends then, in this tenant.
async fn waits(d: &Deployment, root: &Issue, expires_at: DateTime<Utc>, tenant: &Name) -> ApprovalId {
    let child = d.child(root);
    let approval = Approval { tenant: tenant.clone(), expires_at, ..d.approval(&child) };
    let id = approval.id;
    d.done(Defer { would_be: child, approval }).await;
    id
}

fn ids(approvals: &[Approval]) -> Vec<ApprovalId> {
    approvals.iter().map(|approval| approval.id).collect()
}

#[tokio::test]
async fn who_goes_on_behind_the_last_one_sees_each_once_and_in_order() {
    on_both(async |d| {
        let root = d.root();
        d.done(root.clone()).await;
        let own = root.token.tenant.clone();
        let other: Name = "elsewhere".parse().unwrap();
        let start = d.clock.now();
        // Several that end at the same instant, two tenants, and none in the order in which they end.
        for (minutes, tenant) in
            [(9, &own), (2, &own), (5, &other), (5, &own), (5, &own), (1, &own), (5, &own), (7, &other)]
        {
            waits(d, &root, start + TimeDelta::minutes(minutes), tenant).await;
        }
        let now = d.clock.now();
        for tenant in [None, Some(&own), Some(&other)] {
            let whole = d.store.waiting(now, (tenant, None), 100).await.unwrap();
            assert!(whole.is_sorted_by_key(|approval| approval.expires_at));
            let count = match tenant {
                None => 8,
                Some(tenant) if *tenant == own => 6,
                Some(_) => 2,
            };
            assert_eq!(whole.len(), count);
            let (mut seen, mut last) = (Vec::new(), None::<Approval>);
            loop {
                let page = d.store.waiting(now, (tenant, last.as_ref()), 3).await.unwrap();
                let Some(end) = page.last() else { break };
                seen.extend(ids(&page));
                last = Some(end.clone());
            }
            assert_eq!(seen, ids(&whole));

            let whole = d.store.approvals((tenant, None), 100).await.unwrap();
            assert_eq!(whole.len(), count);
            assert!(whole.is_sorted_by(|a, b| a.id.to_string() > b.id.to_string()));
            let (mut seen, mut last) = (Vec::new(), None);
            loop {
                let page = d.store.approvals((tenant, last), 3).await.unwrap();
                let Some(end) = page.last() else { break };
                seen.extend(ids(&page));
                last = Some(end.id);
            }
            assert_eq!(seen, ids(&whole));
        }
    })
    .await;
}

#[tokio::test]
async fn what_is_behind_one_that_has_ended_meanwhile_is_all_that_waits() {
    on_both(async |d| {
        let root = d.root();
        d.done(root.clone()).await;
        let tenant = root.token.tenant.clone();
        let start = d.clock.now();
        let first = waits(d, &root, start + TimeDelta::minutes(1), &tenant).await;
        let second = waits(d, &root, start + TimeDelta::minutes(2), &tenant).await;
        let third = waits(d, &root, start + TimeDelta::minutes(3), &tenant).await;
        let first = d.store.approval(first).await.unwrap().unwrap();
        for (later, left) in
            [(0, vec![second, third]), (1, vec![second, third]), (2, vec![third]), (3, vec![])]
        {
            let now = start + TimeDelta::minutes(later);
            let page = d.store.waiting(now, (None, Some(&first)), 100).await.unwrap();
            assert_eq!(ids(&page), left, "after {later} min");
        }
    })
    .await;
}
