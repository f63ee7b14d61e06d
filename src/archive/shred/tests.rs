//! Both directions together.

use mongodb::bson::{Binary, Bson, Document, doc, oid::ObjectId, spec::BinarySubtype};
use proptest::prelude::*;

use super::inverse::Damage;
use super::*;

fn bytes(document: &Document) -> Vec<u8> {
    document.to_vec().unwrap()
}

/// The shredded form, which gives the payload again.
fn shredded(payload: &[u8], leaves: &[Leaf]) -> Option<Vec<u8>> {
    let mut out = vec![9; 3];
    let made = Shredder::default().shred(payload, leaves, &mut out);
    made.then(|| {
        let limit = payload.len();
        let mut rebuild = Rebuild::default();
        assert_eq!(rebuild.rebuild(&out, limit), Ok(payload));
        // Again, with what is left of the last time; and with less room.
        assert_eq!(rebuild.rebuild(&out, limit), Ok(payload));
        assert_eq!(rebuild.rebuild(&out, limit - 1), Err(Damage::TooLarge));
        out
    })
}

fn value() -> impl Strategy<Value = Bson> {
    let leaf = prop_oneof![
        any::<i32>().prop_map(Bson::Int32),
        any::<i64>().prop_map(Bson::Int64),
        any::<f64>().prop_map(Bson::Double),
        any::<bool>().prop_map(Bson::Boolean),
        any::<[u8; 12]>().prop_map(|id| Bson::ObjectId(ObjectId::from_bytes(id))),
        "[a-z\\x00]{0,20}".prop_map(Bson::String),
        "[a-z]{0,8}".prop_map(Bson::Symbol),
        prop::collection::vec(any::<u8>(), 0..200).prop_map(|bytes| Bson::Binary(Binary {
            subtype: BinarySubtype::Generic,
            bytes
        })),
        any::<i64>().prop_map(|at| Bson::DateTime(mongodb::bson::DateTime::from_millis(at))),
        Just(Bson::Null),
        Just(Bson::MinKey),
        Just(Bson::MaxKey),
        Just(Bson::RegularExpression(mongodb::bson::Regex {
            pattern: mongodb::bson::cstr!("a.c").into(),
            options: mongodb::bson::cstr!("i").into()
        })),
    ];
    leaf.prop_recursive(4, 60, 15, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..15).prop_map(Bson::Array),
            prop::collection::btree_map("[a-d0-2]{0,2}", inner, 0..8)
                .prop_map(|fields| Bson::Document(fields.into_iter().collect())),
        ]
    })
}

fn document() -> impl Strategy<Value = Document> {
    prop::collection::vec(("[a-f]{1,3}", value()), 1..8)
        .prop_map(|fields| fields.into_iter().collect())
}

/// Documents with other bytes between them, some of which begin as documents do.
fn payload() -> impl Strategy<Value = Vec<u8>> {
    let noise = prop_oneof![
        prop::collection::vec(any::<u8>(), 0..90),
        prop::collection::vec(prop::sample::select(vec![0u8, 1, 2, 3, 4, 20]), 0..90),
    ];
    prop::collection::vec((noise, document(), any::<bool>()), 0..20).prop_map(|pieces| {
        let mut payload = Vec::new();
        for (noise, document, cut) in pieces {
            payload.extend(noise);
            let mut document = bytes(&document);
            if cut {
                document.truncate(document.len() / 2);
            }
            payload.extend(document);
        }
        payload
    })
}

proptest! {
    #[test]
    fn every_payload_comes_back(payload in payload()) {
        shredded(&payload, &[]);
    }

    #[test]
    fn the_form_depends_on_the_payload_alone(first in payload(), second in payload()) {
        let mut shredder = Shredder::default();
        let mut out = Vec::new();
        shredder.shred(&first, &[], &mut out);
        let made = shredder.shred(&second, &[], &mut out).then_some(out);
        prop_assert_eq!(made, shredded(&second, &[]));
    }

    #[test]
    fn changed_forms_never_panic_and_keep_the_limit(
        payload in payload(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
    ) {
        if let Some(mut form) = shredded(&payload, &[]) {
            for (place, byte) in changes {
                *place.get_mut(&mut form[..]) = byte;
            }
            let limit = payload.len() + 100;
            if let Ok(again) = Rebuild::default().rebuild(&form, limit) {
                prop_assert!(again.len() <= limit);
            }
        }
    }

    #[test]
    fn leaves_that_are_none_do_no_harm(
        payload in payload(),
        places in prop::collection::vec((any::<prop::sample::Index>(), 0usize..300), 0..5),
    ) {
        let length = payload.len();
        let place = |(start, size): (prop::sample::Index, usize)| {
            let start = if length == 0 { 0 } else { start.index(length) };
            start..start + size
        };
        let mut leaves: Vec<_> = places.into_iter().map(place).collect();
        leaves.sort_by_key(|leaf| leaf.start);
        let mut out = Vec::new();
        if Shredder::default().shred(&payload, &leaves, &mut out) {
            let mut rebuild = Rebuild::default();
            prop_assert_eq!(rebuild.rebuild(&out, payload.len()), Ok(&payload[..]));
        }
    }
}

fn order(number: i32) -> Document {
    doc! {
        "_id": number,
        "customer": format!("customer {}", number % 17),
        "lines": (0..number % 4).map(|line| doc! { "sku": line * number, "price": 0.5 }).collect::<Vec<_>>(),
        "paid": number % 3 == 0,
        "key": Binary { subtype: BinarySubtype::Uuid, bytes: vec![number as u8; 16] },
    }
}

#[test]
fn names_are_written_once_and_each_field_stands_together() {
    let payload: Vec<u8> = (0..500).flat_map(|number| bytes(&order(number))).collect();
    let form = shredded(&payload, &[]).unwrap();
    let count =
        |bytes: &[u8], what: &[u8]| bytes.windows(what.len()).filter(|w| *w == what).count();
    assert_eq!(count(&payload, b"customer\0"), 500);
    assert_eq!(count(&form, b"customer\0"), 1);
    assert!(count(&form, b"customer 1\0customer 2\0customer 3\0") > 20);
    assert!(form.len() < payload.len() * 6 / 10, "{}", form.len());
}

#[test]
fn what_fails_late_leaves_no_trace() {
    let good = bytes(&order(3));
    let mut bad = bytes(&doc! { "new": { "names": 1 }, "that": "come", "before": 2.5 });
    // Its inner document says that it is longer than it is.
    let place = bad.windows(4).position(|w| w == b"new\0").unwrap() + 4;
    bad[place] += 1;
    let payload = [&good[..], &bad, &good, &bad, &good].concat();
    let form = shredded(&payload, &[]).unwrap();
    let holds = |what: &[u8]| form.windows(what.len()).filter(|w| *w == what).count();
    assert_eq!(holds(b"\x03new\0"), 2);
    assert_eq!(holds(b"customer\0"), 1);
}

#[test]
fn keys_of_an_index_page_are_taken_apart() {
    let mut page = vec![0xAA; 40];
    let start = page.len();
    for number in 0..2000u32 {
        let key = number.to_be_bytes();
        if number % 16 == 0 {
            page.push(4 << 2 | 1);
            page.extend(key);
        } else {
            page.extend([2 << 2 | 2, 2]);
            page.extend(&key[2..]);
        }
        if number % 100 == 0 {
            // A value of three bytes with a time window of one number.
            page.extend([0x88, 0x08, 0x81, 0x83, 1, 2, 3]);
        } else {
            page.extend([1 << 2 | 3, 7]);
        }
    }
    let leaf = start..page.len();
    page.extend([0; 100]);
    let form = shredded(&page, std::slice::from_ref(&leaf)).unwrap();
    let packed = |bytes: &[u8]| zstd::bulk::compress(bytes, 3).unwrap().len();
    assert!(
        packed(&form) < packed(&page) / 2,
        "{} {}",
        packed(&form),
        packed(&page)
    );
    assert_eq!(shredded(&page, &[]), None);
}

#[test]
fn long_cells_behind_long_gaps_are_taken_apart() {
    let mut page = vec![0xAA; 100];
    let mut leaves = Vec::new();
    for leaf in 0..3u8 {
        let start = page.len();
        for number in 0..50u8 {
            // A key of 70 bytes, and a value of 130 with an empty time window.
            page.extend([0x50, 0x86]);
            page.extend([number; 70]);
            page.extend([0x88, 0x00, 0xC0, 66]);
            page.extend([number ^ leaf; 130]);
        }
        leaves.push(start..page.len());
        page.extend([leaf; 90]);
    }
    assert!(shredded(&page, &leaves).is_some());
}

#[test]
fn hostile_payloads_do_not_take_for_ever() {
    // Each byte may begin a document that is found out at its end.
    let one = [20, 0, 0, 0, 0x0A, 0x61, 0];
    let payload = one.repeat(60_000);
    shredded(&payload, &[]);
    let mut long = vec![0x02, b'a', 0, 0xFF, 0xFF, 1, 0];
    long.extend([b'x'; 9]);
    let payload = long.repeat(30_000);
    // Were it quadratic, this test would not end.
    shredded(&payload, &[]);
    // Each begins with bytes that lead to one text, which has no end.
    let size = 8 << 20;
    let mut payload = Vec::new();
    for number in 0..2000u32 {
        let (here, text) = (12 * number, 24_000);
        payload.extend((size - here).to_le_bytes());
        payload.extend([0x05, b'b', 0]);
        payload.extend((text - here - 12).to_le_bytes());
        payload.push(0);
    }
    payload.extend([0x02, b'a', 0]);
    payload.extend((size - 24_000 - 8).to_le_bytes());
    payload.resize(size as usize - 1, b'x');
    payload.push(0);
    shredded(&payload, &[]);
}

/// The inputs of the hostile target `shred`: forms of payloads, and a payload.
#[test]
#[ignore = "the corpus is kept, not made again"]
fn make_the_corpus() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let folder = root.join("integration/hostile/corpus/shred");
    std::fs::create_dir_all(&folder).unwrap();
    let documents: Vec<u8> = (0..20).flat_map(|number| bytes(&order(number))).collect();
    let index = std::fs::read(root.join("integration/fixtures/unsnap/index.bin")).unwrap();
    let cells = &index[..4096];
    let leaf = 40..4096;
    let form = shredded(cells, &[leaf]).unwrap();
    std::fs::write(folder.join("cells"), form).unwrap();
    std::fs::write(folder.join("documents"), shredded(&documents, &[]).unwrap()).unwrap();
    std::fs::write(folder.join("payload"), &documents[..2000]).unwrap();
}
