//! Consumer groups over a disk that crashes and fails: whatever members were told still holds.
//!
//! Checked after every step and every crash: no partition is held by two members; a member that was
//! told an epoch is not fenced for it, unless two answers in a row did not reach it; when the disk
//! behaves again everything is held by somebody.

use std::collections::{BTreeMap, BTreeSet};

use events::engine::groups::assign::Partitions;
use events::engine::groups::classic::GroupError;
use events::engine::groups::membership::{Beat, JOINING, LEAVING, Phase, Sharing};
use testkit::{CrashDisk, Random};

use crate::crash::{World, drive, open};

const PARTITIONS: i32 = 5;
const MEMBERS: u64 = 4;

#[derive(Default)]
struct Client {
    epoch: i32,
    holds: Partitions,
    /// Answers in a row that did not reach it.
    missed: u32,
}

#[derive(Default)]
struct Model {
    clients: BTreeMap<String, Client>,
    answered: u64,
}

impl Model {
    async fn beat(&mut self, disk: &CrashDisk, world: &World, id: &str) {
        let client = self.clients.entry(id.to_owned()).or_default();
        let beat = Beat {
            member: id.to_owned(),
            epoch: client.epoch,
            session_ms: 45_000,
            rebalance_ms: Some(60_000),
            names: Some(BTreeSet::from(["topic".to_owned()])),
            owned: Some(client.holds.clone()),
            tell_all: client.epoch == JOINING || client.missed > 0,
            ..Beat::default()
        };
        let asked = world.groups.beat("group", Sharing::Consumer, beat, &|_| true);
        match drive(disk, &world.store, asked).await {
            Some(Ok(beaten)) => {
                self.answered += 1;
                client.epoch = beaten.epoch;
                client.missed = 0;
                if let Some(assigned) = beaten.assigned {
                    client.holds = assigned;
                }
            }
            Some(Err(
                GroupError::FencedEpoch | GroupError::UnknownMember | GroupError::NotFound,
            )) => {
                assert!(client.epoch == JOINING || client.missed > 1, "{id} was told its epoch");
                *client = Client::default();
            }
            Some(Err(GroupError::NotAvailable)) | None => client.missed += 1,
            Some(Err(error)) => panic!("{error}"),
        }
        self.check();
    }

    /// Who leaves holds nothing any more, whether that is heard or not.
    async fn leave(&mut self, disk: &CrashDisk, world: &World, id: &str) {
        if self.clients.remove(id).is_some() {
            let beat = Beat { member: id.to_owned(), epoch: LEAVING, ..Beat::default() };
            let asked = world.groups.beat("group", Sharing::Consumer, beat, &|_| true);
            drop(drive(disk, &world.store, asked).await);
        }
    }

    fn check(&self) {
        let mut held = BTreeSet::new();
        for client in self.clients.values() {
            for one in client.holds.values().flatten() {
                assert!(held.insert(*one), "{one} is held twice");
            }
        }
    }
}

async fn life(seed: u64) -> u64 {
    let mut random = Random::new(seed);
    let mut disk = CrashDisk::new(seed);
    let mut model = Model::default();
    for _ in 0..4 {
        let world = loop {
            match open(&disk).await {
                Some(world) if !disk.is_down() => break world,
                _ => disk = disk.reboot(),
            }
        };
        if world.log.topic("topic").is_none() {
            let made = world.log.create("topic", 42, PARTITIONS, BTreeMap::new());
            drop(drive(&disk, &world.store, made).await);
        }
        if random.chance(3, 4) {
            disk.crash_after(5 + random.below(120));
        }
        if random.chance(1, 2) {
            let from = random.below(60);
            (from..=from + random.below(6)).for_each(|step| disk.fail_after(step));
        }
        for _ in 0..random.below(60) {
            let id = format!("member {}", random.below(MEMBERS));
            match random.chance(1, 12) {
                true => model.leave(&disk, &world, &id).await,
                false => model.beat(&disk, &world, &id).await,
            }
            if disk.is_down() {
                break;
            }
        }
        world.store.close();
        drop(world);
        if disk.is_down() || random.chance(1, 2) {
            disk = disk.reboot();
        }
        disk.behave();
    }
    let world = open(&disk).await.expect("nothing stands in the way");
    if world.log.topic("topic").is_none() {
        let made = world.log.create("topic", 42, PARTITIONS, BTreeMap::new());
        drive(&disk, &world.store, made).await.unwrap().unwrap();
    }
    // All are there again, or for the first time, and one after the other says so.
    for _ in 0..8 {
        for id in 0..MEMBERS {
            model.beat(&disk, &world, &format!("member {id}")).await;
        }
    }
    let held: usize =
        model.clients.values().flat_map(|one| one.holds.values()).map(BTreeSet::len).sum();
    assert_eq!(held, usize::try_from(PARTITIONS).unwrap());
    let group = world.groups.members("group", Sharing::Consumer).await.unwrap();
    assert_eq!((group.phase(), group.members.len() as u64), (Phase::Stable, MEMBERS));
    model.answered
}

#[test]
fn what_members_were_told_holds_after_every_crash() {
    let seeds: u64 = std::env::var("MS_CRASH_SEEDS").map_or(60, |n| n.parse().expect("a number"));
    let from: u64 = std::env::var("MS_CRASH_FROM").map_or(0, |n| n.parse().expect("a number"));
    let mut answered = 0;
    for seed in from..from + seeds {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let lived = std::panic::catch_unwind(|| runtime.block_on(life(seed)));
        answered += lived.unwrap_or_else(|_| panic!("MS_CRASH_FROM={seed} MS_CRASH_SEEDS=1"));
    }
    // The canary: of a group that answers nobody nothing is proved.
    assert!(answered > seeds * 40, "{answered} beats were answered");
}
