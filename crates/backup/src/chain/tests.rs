use super::*;
use chrono::TimeDelta;
use pgbosun_core::lsn::Lsn;
use proptest::prelude::*;

pub(crate) fn backup(label: &str, lsn: u64, parent: Option<&str>) -> BackupInfo {
    let at = DateTime::from_timestamp(1_790_000_000 + lsn as i64 * 3600, 0).unwrap();
    BackupInfo {
        format: pgbosun_repository::FORMAT,
        label: label.into(),
        cluster: "main".into(),
        system_id: "1".into(),
        kind: if parent.is_some() { "incremental" } else { "full" }.into(),
        parent: parent.map(Into::into),
        job: Some("daily".into()),
        server: "h".into(),
        superuser: "postgres".into(),
        server_version: "17.2".into(),
        program_version: "0".into(),
        started_at: at,
        finished_at: at + TimeDelta::minutes(1),
        start_lsn: Lsn(lsn << 24),
        stop_lsn: Lsn((lsn << 24) + 100),
        start_timeline: 1,
        timeline: 1,
        wal_segment_size: 16 << 20,
        databases: Default::default(),
        settings: Default::default(),
        tablespaces: Vec::new(),
        last_segment: None,
        checksum_failures: false,
        bytes: 1,
        stored_bytes: 1,
        compression: String::new(),
        encrypted_to: Vec::new(),
        objects: Vec::new(),
        checksum: String::new(),
    }
}

fn noted(verified: Option<bool>) -> Notes {
    Notes { verified, ..Notes::default() }
}

fn health(backups: Vec<(BackupInfo, Option<bool>)>, label: &str) -> Health {
    let backups = backups.into_iter().map(|(info, verified)| (info, noted(verified))).collect();
    let catalogue = Catalogue::of(backups, &Lineages::new(), Vec::new());
    catalogue.entries().iter().find(|entry| entry.info.label == label).unwrap().health().clone()
}

#[test]
fn c27_a_backup_is_as_good_as_the_worst_link() {
    let chain = |full: Option<bool>, middle: Option<bool>| {
        let links = vec![
            (backup("a", 1, None), full),
            (backup("b", 2, Some("a")), middle),
            (backup("c", 3, Some("b")), Some(true)),
        ];
        health(links, "c")
    };
    assert_eq!(chain(Some(true), Some(true)), Health::Verified);
    assert_eq!(chain(None, Some(true)), Health::Unverified);
    assert_eq!(chain(Some(false), Some(true)), Health::Damaged { label: "a".into() });
    assert_eq!(chain(Some(true), Some(false)), Health::Damaged { label: "b".into() });
    let suspect = BackupInfo { checksum_failures: true, ..backup("a", 1, None) };
    let on = vec![(suspect, Some(true)), (backup("b", 2, Some("a")), Some(true))];
    assert_eq!(health(on, "b"), Health::Suspect { label: "a".into() });
}

#[test]
fn c11_a_chain_without_its_beginning_is_broken_and_none_goes_in_circles() {
    let broken = |backups: Vec<BackupInfo>, label: &str| {
        !health(backups.into_iter().map(|info| (info, Some(true))).collect(), label).is_whole()
    };
    assert!(broken(vec![backup("b", 2, Some("a"))], "b"));
    assert!(broken(vec![backup("a", 2, Some("a"))], "a"));
    assert!(broken(vec![backup("a", 2, Some("b")), backup("b", 2, Some("a"))], "a"));
    assert!(broken(vec![backup("a", 3, None), backup("b", 2, Some("a"))], "b"), "the parent began later");
    let other = BackupInfo { system_id: "2".into(), ..backup("a", 1, None) };
    assert!(broken(vec![other, backup("b", 2, Some("a"))], "b"), "another system");
}

#[test]
fn c33_a_date_in_the_future_does_not_make_a_backup_the_newest() {
    let now = backup("x", 10, None).started_at;
    let ahead = |label, lsn| {
        let started_at = now + TimeDelta::days(3650);
        BackupInfo { started_at, finished_at: started_at, ..backup(label, lsn, None) }
    };
    let newest = |backups: Vec<BackupInfo>| {
        let mut backups = backups;
        pgbosun_repository::sort_backups(&mut backups, |info| info, now);
        let backups = backups.into_iter().map(|info| (info, noted(None))).collect();
        Catalogue::of(backups, &Lineages::new(), Vec::new()).newest_good(now).unwrap().label.clone()
    };
    assert_eq!(newest(vec![backup("a", 1, None), ahead("b", 2), backup("c", 3, None)]), "c");
    assert_eq!(newest(vec![backup("a", 1, None), ahead("b", 2)]), "a");
    assert_eq!(newest(vec![ahead("b", 2)]), "b", "better than none");
    // The newest by LSN, though a clock that was set back dates it before the other.
    let behind = BackupInfo { started_at: now - TimeDelta::days(400), ..backup("late", 5, None) };
    assert_eq!(newest(vec![backup("a", 4, None), behind]), "late");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    /// Whatever links are lost or damaged: what is called good has all its links, each of them good.
    #[test]
    fn c27_nothing_is_called_good_on_a_bad_link(
        raw in proptest::collection::vec((0_usize..8, proptest::option::of(any::<bool>()), any::<bool>(), any::<bool>()), 1..12)
    ) {
        let mut backups: Vec<(BackupInfo, Notes)> = Vec::new();
        let mut lost = Vec::new();
        for (index, (back, verified, suspect, gone)) in raw.into_iter().enumerate() {
            let parent = (back > 0 && back <= index).then(|| format!("b{}", index - back));
            let info = backup(&format!("b{index}"), index as u64 + 1, parent.as_deref());
            let info = BackupInfo { checksum_failures: suspect && index % 5 == 0, ..info };
            if gone && index % 3 == 0 {
                lost.push(info.label);
            } else {
                backups.push((info, noted(verified)));
            }
        }
        let catalogue = Catalogue::of(backups, &Lineages::new(), Vec::new());
        for entry in catalogue.entries() {
            let mut link = Some(entry);
            let mut all_good = true;
            let mut all_verified = true;
            while let Some(at) = link {
                all_good &= at.notes.verified != Some(false) && !at.info.checksum_failures;
                all_verified &= at.notes.verified == Some(true);
                link = match &at.info.parent {
                    Some(parent) => {
                        let parent = catalogue.find(&BackupRef { label: parent.clone(), ..at.info.place() });
                        all_good &= parent.is_some();
                        parent
                    }
                    None => None,
                };
            }
            prop_assert_eq!(entry.health().is_good(), all_good);
            prop_assert_eq!(entry.health().is_verified(), all_good && all_verified);
            let chain = catalogue.chain(entry);
            prop_assert_eq!(&chain.links.last().unwrap().label, &entry.info.label);
            if entry.health().is_whole() {
                prop_assert!(chain.links[0].parent.is_none());
            }
            for dependent in catalogue.dependents(&entry.info) {
                prop_assert!(entry.health().is_good() || !dependent.health().is_good());
            }
        }
    }
}

#[test]
fn c33_an_old_system_wins_neither_by_its_positions_nor_by_a_label_that_both_have() {
    let old = backup("a", 900, None);
    let taken = old.started_at + TimeDelta::days(1);
    let new = BackupInfo { system_id: "2".into(), started_at: taken, finished_at: taken, ..backup("a", 1, None) };
    let now = taken + TimeDelta::hours(2);
    for found in [vec![old.clone(), new.clone()], vec![new.clone(), old.clone()]] {
        assert_eq!(newest_of(found, now).as_ref(), Some(&new));
    }
    let both = [&old, &new].map(|info| (info.clone(), Notes::default())).to_vec();
    let catalogue = Catalogue::of(both, &Lineages::new(), Vec::new());
    for info in [&old, &new] {
        assert_eq!(&catalogue.find(&info.place()).unwrap().info, info);
    }
}
