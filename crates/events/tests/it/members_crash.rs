//! Consumer groups over a disk that crashes and fails: whatever members were told still holds. One
//! member knows only groups that share out among themselves, so the group changes its kind too.
//!
//! Checked after every step and every crash: no partition is held by two members; a member that was
//! told an epoch is not fenced for it, unless two answers in a row did not reach it; when the disk
//! behaves again everything is held by somebody.

use std::collections::{BTreeMap, BTreeSet};

use events::engine::groups::assign::Partitions;
use events::engine::groups::classic::{GroupError, Join};
use events::engine::groups::membership::{Beat, JOINING, LEAVING, Phase, Sharing};
use events::engine::groups::mixed::{Speech, Wanted};
use testkit::{CrashDisk, Random};

use crate::crash::{World, drive, open};

const PARTITIONS: i32 = 5;
const MEMBERS: u64 = 4;
const ALIKE: &str = "alike";

/// Words of a member that shares out: it says its topic, and a leader says partitions.
struct Words;

impl Speech for Words {
    fn wish(&self, said: &[u8]) -> Option<Wanted> {
        let topics = [String::from_utf8(said.to_vec()).ok()?].into();
        Some(Wanted { topics, owned: Vec::new() })
    }

    fn given(&self, assignment: &[u8]) -> Option<Vec<(String, Vec<i32>)>> {
        Some(vec![("topic".to_owned(), partitions(assignment))])
    }

    fn give(&self, _: &[u8], given: Vec<(String, Vec<i32>)>) -> Vec<u8> {
        given.into_iter().flat_map(|(_, all)| all).map(|one| one.to_le_bytes()[0]).collect()
    }
}

fn partitions(bytes: &[u8]) -> Vec<i32> {
    bytes.iter().map(|one| i32::from(*one)).collect()
}

/// The member that knows only such groups; it gives up all to join.
#[derive(Default)]
struct Alike {
    generation: Option<i32>,
    holds: Vec<i32>,
}

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
    alike: Alike,
    answered: u64,
    /// How often the group was of each kind.
    kinds: [u64; 2],
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

    async fn beat_alike(&mut self, disk: &CrashDisk, world: &World) {
        let (groups, alike) = (&world.groups, &mut self.alike);
        if let Some(generation) = alike.generation {
            let asked = groups.heartbeat("group", ALIKE, None, generation);
            match drive(disk, &world.store, asked).await {
                Some(Ok(()) | Err(GroupError::NotAvailable)) | None => return,
                Some(Err(_)) => *alike = Alike::default(),
            }
        }
        let join = Join {
            session_ms: 45_000,
            rebalance_ms: 60_000,
            kind: "consumer".to_owned(),
            protocols: vec![("words".to_owned(), b"topic".to_vec())],
            ..Join::default()
        };
        let joined = drive(disk, &world.store, groups.join("group", join, ALIKE)).await;
        let Some(Ok(joined)) = joined else { return };
        let leads = joined.leader == ALIKE;
        self.kinds[usize::from(leads)] += 1;
        let all = (0..PARTITIONS).map(|one| one.to_le_bytes()[0]).collect();
        let given = if leads { vec![(ALIKE.to_owned(), all)] } else { Vec::new() };
        let asked = groups.sync("group", ALIKE, None, joined.generation, given);
        if let Some(Ok(own)) = drive(disk, &world.store, asked).await {
            self.answered += 1;
            *alike = Alike { generation: Some(joined.generation), holds: partitions(&own) };
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
        let told = self.clients.values().flat_map(|client| client.holds.values().flatten());
        for one in told.chain(&self.alike.holds) {
            assert!(held.insert(*one), "{one} is held twice");
        }
    }
}

async fn life(seed: u64) -> (u64, [u64; 2]) {
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
        world.groups.set_speech(&Words);
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
            match random.below(12) {
                0 => model.leave(&disk, &world, &id).await,
                1 => {
                    // All who are told, so that the others share out again.
                    for id in model.clients.keys().cloned().collect::<Vec<_>>() {
                        model.leave(&disk, &world, &id).await;
                    }
                    let _ = drive(&disk, &world.store, world.groups.tick_members()).await;
                    model.beat_alike(&disk, &world).await;
                }
                2..5 => model.beat_alike(&disk, &world).await,
                5 => {
                    let _ = drive(&disk, &world.store, world.groups.tick_members()).await;
                }
                _ => model.beat(&disk, &world, &id).await,
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
    world.groups.set_speech(&Words);
    if world.log.topic("topic").is_none() {
        let made = world.log.create("topic", 42, PARTITIONS, BTreeMap::new());
        drive(&disk, &world.store, made).await.unwrap().unwrap();
    }
    // All are there again, or for the first time, and one after the other says so.
    for _ in 0..8 {
        for id in 0..MEMBERS {
            model.beat(&disk, &world, &format!("member {id}")).await;
        }
        model.beat_alike(&disk, &world).await;
    }
    let told = model.clients.values().flat_map(|one| one.holds.values()).map(BTreeSet::len);
    let held = told.sum::<usize>() + model.alike.holds.len();
    assert_eq!(held, usize::try_from(PARTITIONS).unwrap());
    let group = world.groups.members("group", Sharing::Consumer).await.unwrap();
    assert_eq!((group.phase(), group.members.len() as u64), (Phase::Stable, MEMBERS + 1));
    (model.answered, model.kinds)
}

#[test]
fn what_members_were_told_holds_after_every_crash() {
    let seeds: u64 = std::env::var("MS_CRASH_SEEDS").map_or(12, |n| n.parse().expect("a number"));
    let from: u64 = std::env::var("MS_CRASH_FROM").map_or(0, |n| n.parse().expect("a number"));
    let (mut answered, mut kinds) = (0, [0, 0]);
    for seed in from..from + seeds {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let lived = std::panic::catch_unwind(|| runtime.block_on(life(seed)));
        let lived = lived.unwrap_or_else(|_| panic!("MS_CRASH_FROM={seed} MS_CRASH_SEEDS=1"));
        answered += lived.0;
        kinds = [kinds[0] + lived.1[0], kinds[1] + lived.1[1]];
    }
    // The canary: of a group that answers nobody nothing is proved.
    assert!(answered > seeds * 40, "{answered} beats were answered");
    assert!(kinds.iter().all(|kind| *kind > seeds * 2), "{kinds:?}: both kinds");
}
