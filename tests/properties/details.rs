//! Authorization details: the order of DESIGN §3 (RA-05, T09) and what two sets have in common.

use proptest::prelude::*;
use serde_json::{Number, Value, json};
use taskgrant::domain::decimal::Decimal;
use taskgrant::domain::details::Details;

use crate::world::{
    RESOURCES, any_json, calls, detail, details, is_for, permits, read, rules, some_resources, uris, values,
    within,
};

/// A detail and one that is a little narrower, wider or just other.
fn neighbours() -> impl Strategy<Value = (Value, Value)> {
    (detail(), detail(), any::<[bool; 8]>(), any::<[bool; 8]>()).prop_map(|(base, other, take, keep)| {
        let mut near = base.clone();
        let mut kept = keep.iter().cycle();
        near.as_object_mut().unwrap().retain(|field, _| field == "type" || *kept.next().unwrap());
        if base["type"] == other["type"] {
            for (index, (field, value)) in other.as_object().unwrap().iter().enumerate() {
                if take[index] {
                    near[field] = value.clone();
                }
            }
        }
        (base, near)
    })
}

fn covers(parent: &Value, child: &Value) -> bool {
    read_one(parent).covers(&read_one(child))
}

fn read_one(detail: &Value) -> Details {
    read(std::slice::from_ref(detail))
}

fn json_of(details: &Details) -> Vec<Value> {
    details.to_json().as_array().unwrap().clone()
}

#[test]
fn l1_every_two_values_of_a_field_compare_as_its_rule_says() {
    for (field, values) in values() {
        for (held, asked) in values.iter().flat_map(|a| values.iter().map(move |b| (a, b))) {
            let detail = |value: &Value| json!({"type": "tool_call", field: value});
            let (parent, child) = (detail(held), detail(asked));
            assert_eq!(covers(&parent, &child), within(&child, &parent), "{parent} and {child}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 160, ..ProptestConfig::default() })]

    #[test]
    fn l1_a_detail_covers_another_exactly_where_the_rules_say_so((one, other) in neighbours()) {
        prop_assert_eq!(covers(&one, &other), within(&other, &one));
        prop_assert_eq!(covers(&other, &one), within(&one, &other));
    }

    #[test]
    fn t09_each_child_detail_is_covered_by_one_parent_detail(parents in details(3), children in details(3)) {
        let each = children.iter().all(|c| parents.iter().any(|p| within(c, p)));
        prop_assert_eq!(read(&parents).covers(&read(&children)), each);
        let left = read(&children).uncovered_by(&read(&parents));
        let uncovered = children.iter().filter(|c| !parents.iter().any(|p| within(c, p)));
        prop_assert_eq!(left, read(&uncovered.cloned().collect::<Vec<_>>()));
    }

    #[test]
    fn l1_what_a_covered_detail_permits_its_parent_permits((one, other) in neighbours()) {
        if covers(&one, &other) {
            for call in calls() {
                for resource in RESOURCES {
                    let widened = permits(&other, &call, resource) && !permits(&one, &call, resource);
                    prop_assert!(!widened, "{call:?} at {resource}");
                }
            }
        }
    }

    #[test]
    fn covering_is_an_order((a, b) in neighbours(), (c, d) in neighbours()) {
        for x in [&a, &b, &c, &d] {
            prop_assert!(covers(x, x));
            for y in [&a, &b, &c, &d] {
                if covers(x, y) && covers(y, x) {
                    prop_assert_eq!(read_one(x), read_one(y));
                }
                for z in [&a, &b, &c, &d] {
                    prop_assert!(!(covers(x, y) && covers(y, z)) || covers(x, z));
                }
            }
        }
    }

    #[test]
    fn a_meet_is_the_widest_within_both(left in details(3), right in details(3), other in details(4)) {
        let (a, b) = (read(&left), read(&right));
        let met = a.meet(&b);
        prop_assert!(a.covers(&met) && b.covers(&met));
        for candidate in other.iter().chain(&left).chain(&right) {
            let one = read_one(candidate);
            prop_assert!(!(a.covers(&one) && b.covers(&one)) || met.covers(&one), "{candidate} is within both");
        }
        for call in calls() {
            for at in RESOURCES {
                let by = |set: &[Value]| set.iter().any(|d| permits(d, &call, at));
                prop_assert_eq!(by(&json_of(&met)), by(&left) && by(&right), "{:?} at {}", call, at);
            }
        }
    }

    #[test]
    fn narrowing_details_is_idempotent_and_order_free(one in details(3), two in details(3), three in details(3)) {
        let (a, b, c) = (read(&one), read(&two), read(&three));
        let same = |x: &Details, y: &Details| x.covers(y) && y.covers(x);
        prop_assert_eq!(a.meet(&b), b.meet(&a));
        prop_assert!(same(&a.meet(&a), &a));
        prop_assert!(same(&a.meet(&b).meet(&b), &a.meet(&b)));
        prop_assert!(same(&a.meet(&b).meet(&c), &a.meet(&b.meet(&c))));
    }

    #[test]
    fn ra_06_details_are_kept_for_their_locations_only(set in details(4), at in some_resources(1)) {
        let here: Vec<Value> = set.iter().filter(|d| is_for(d, &at)).cloned().collect();
        prop_assert_eq!(read(&set).for_any(&uris(&at)), read(&here));
    }

    #[test]
    fn details_are_read_as_they_are_printed(set in details(4), other in details(2)) {
        for details in [read(&set), read(&set).meet(&read(&other))] {
            prop_assert_eq!(Details::read(&details.to_json(), &rules()).unwrap(), details);
        }
    }

    #[test]
    fn ra_02_any_json_is_read_as_it_prints_or_refused(value in any_json(), fields in any_json()) {
        let mut detail = json!({"type": "tool_call"});
        if let (Some(object), Value::Object(fields)) = (detail.as_object_mut(), fields) {
            object.extend(fields.into_iter().filter(|(field, _)| field != "type"));
        }
        for array in [value, json!([detail.clone()])] {
            if let Ok(details) = Details::read(&array, &rules()) {
                prop_assert!(array.as_array().unwrap().len() <= 64);
                prop_assert_eq!(Details::read(&details.to_json(), &rules()).unwrap(), details);
            }
        }
        let known = ["type", "tools", "operation", "amount", "floor", "path", "locations"];
        let unknown = detail.as_object().unwrap().keys().any(|field| !known.contains(&field.as_str()));
        prop_assert!(!unknown || Details::read(&json!([detail]), &rules()).is_err());
    }

    #[test]
    fn a_path_with_an_escape_or_a_dot_segment_is_refused(
        before in "[a-z/]{0,4}", odd in prop::sample::select(vec!["%", "/../", "/./", "//", "\\", "\u{0}"]),
        after in "[a-z]{1,4}",
    ) {
        let path = format!("/{before}{odd}{after}");
        let detail = json!([{"type": "tool_call", "path": path}]);
        prop_assert!(Details::read(&detail, &rules()).is_err());
    }

    #[test]
    fn decimals_are_exact_and_read_as_they_are_printed(units in 0_i64..1_000_000_000_000_000, places in 0_u32..=15, negative: bool) {
        let digits = format!("{units:016}");
        let (whole, fraction) = digits.split_at(16 - places as usize);
        let sign = if negative { "-" } else { "" };
        let plain = whole.trim_start_matches('0');
        let fraction = fraction.trim_end_matches('0');
        let dot = if fraction.is_empty() { "" } else { "." };
        let text = format!("{sign}{}{dot}{fraction}", if plain.is_empty() { "0" } else { plain });
        let read = Decimal::from_number(&serde_json::from_str(&text).unwrap()).unwrap();
        prop_assert_eq!(Decimal::from_number(&read.to_number()), Some(read));
        if units != 0 {
            prop_assert_eq!(read.to_string(), text);
        }
    }

    #[test]
    fn decimals_keep_the_order_of_their_digits(a in -999_999_999_999_999_i64..=999_999_999_999_999, b in -999_999_999_999_999_i64..=999_999_999_999_999, close: bool) {
        let b = if close { a.saturating_add(b % 3).clamp(-999_999_999_999_999, 999_999_999_999_999) } else { b };
        let hundredths = |n: i64| {
            let text = format!("{}{}.{:02}", if n < 0 { "-" } else { "" }, (n / 100).abs(), (n % 100).abs());
            Decimal::from_number(&serde_json::from_str(&text).unwrap()).unwrap()
        };
        prop_assert_eq!(hundredths(a).cmp(&hundredths(b)), a.cmp(&b));
    }

    #[test]
    fn any_number_is_a_decimal_that_survives_or_none(float: f64, whole: i64, unsigned: u64) {
        for number in [Number::from_f64(float), Some(whole.into()), Some(unsigned.into())].into_iter().flatten() {
            if let Some(read) = Decimal::from_number(&number) {
                prop_assert_eq!(Decimal::from_number(&read.to_number()), Some(read));
                prop_assert!(number.as_f64().unwrap().abs() < 1e15);
            }
        }
    }
}
