//! The rules as properties over random games, and the wall's grace case by case.

use std::collections::BTreeSet;
use std::time::Duration;

use proptest::prelude::*;

use super::bot;
use super::grid::Grid;
use super::speed::TICK_MIN;
use super::world::{FOOD_MAX, LENGTH_AT_START, POINTS_FOOD, POINTS_RIVAL, WALL_GRACE};
use super::{Cause, Cell, Direction, Input, SnakeId, Step, World};

const GRID: Grid = Grid { width: 12, height: 10 };
const A: SnakeId = SnakeId(1);
const B: SnakeId = SnakeId(2);
const T: Duration = Duration::from_secs(1);

fn input(snake: SnakeId, direction: Direction, at: Duration) -> Input {
    Input { snake, direction, at }
}

fn causes(step: &Step) -> Vec<(SnakeId, Cause)> {
    step.deaths.iter().map(|death| (death.snake, death.cause)).collect()
}

/// What must be true of every board at any time.
fn check(world: &World) -> Result<(), TestCaseError> {
    let grid = world.grid();
    let mut seen = BTreeSet::new();
    for snake in world.snakes().values() {
        prop_assert!(snake.body.len() >= LENGTH_AT_START);
        let cells: Vec<Cell> = snake.body.iter().copied().collect();
        prop_assert!(cells.windows(2).all(|pair| pair[0].distance(pair[1]) == 1), "one line");
        for cell in cells {
            prop_assert!(cell.0 < grid.width && cell.1 < grid.height, "on the board");
            prop_assert!(seen.insert(cell), "two snakes, or one twice, on {cell:?}");
            prop_assert!(!world.food().contains(&cell), "food under a snake on {cell:?}");
        }
    }
    prop_assert!(world.food().len() <= FOOD_MAX);
    Ok(())
}

#[derive(Clone, Debug)]
enum Act {
    Spawn(u32),
    Remove(u32),
    Turn(u32, u8, u64),
    Tick,
    Settle(u64),
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        1 => (0..6_u32).prop_map(Act::Spawn),
        1 => (0..6_u32).prop_map(Act::Remove),
        6 => (0..6_u32, 0..4_u8, 0..60_u64).prop_map(|(id, d, ms)| Act::Turn(id, d, ms)),
        6 => Just(Act::Tick),
        1 => (0..60_u64).prop_map(Act::Settle),
    ]
}

/// Plays a game from a seed and acts; gives every step.
fn play(seed: u64, acts: &[Act]) -> Result<Vec<Step>, TestCaseError> {
    let mut world = World::new(GRID, seed);
    let (mut now, mut inputs, mut steps) = (T, Vec::new(), Vec::new());
    for act in acts {
        match *act {
            Act::Spawn(id) => {
                world.spawn(SnakeId(id));
            }
            Act::Remove(id) => {
                world.remove(SnakeId(id));
            }
            Act::Turn(id, d, ms) => {
                let at = now + Duration::from_millis(ms);
                inputs.push(input(SnakeId(id), Direction::try_from(d).unwrap(), at));
            }
            Act::Tick => {
                now += TICK_MIN;
                let lengths: Vec<_> =
                    world.snakes().iter().map(|(id, s)| (*id, s.body.len(), s.score)).collect();
                let step = world.tick(&std::mem::take(&mut inputs), now);
                grows_by_what_it_eats(&world, &lengths, &step)?;
                steps.push(step);
            }
            Act::Settle(ms) => {
                let until = now + Duration::from_millis(ms);
                steps.push(world.settle(&std::mem::take(&mut inputs), until));
            }
        }
        check(&world)?;
    }
    Ok(steps)
}

fn grows_by_what_it_eats(
    world: &World,
    before: &[(SnakeId, usize, u32)],
    step: &Step,
) -> Result<(), TestCaseError> {
    for (id, length, score) in before {
        let Some(snake) = world.snakes().get(id) else { continue };
        let grew = step.moves.iter().any(|(mover, _, grew)| mover == id && *grew);
        prop_assert_eq!(snake.body.len(), length + usize::from(grew));
        let against = step.deaths.iter().filter(|d| d.cause == Cause::Other(*id)).count();
        let rivals = POINTS_RIVAL * u32::try_from(against).unwrap();
        prop_assert_eq!(snake.score, score + POINTS_FOOD * u32::from(grew) + rivals);
    }
    Ok(())
}

proptest! {
    #[test]
    fn boards_stay_sound_and_games_repeat(
        seed: u64,
        acts in prop::collection::vec(act(), 1..250),
    ) {
        prop_assert_eq!(play(seed, &acts)?, play(seed, &acts)?);
    }

    #[test]
    fn food_comes_back_up_to_what_the_board_should_have(seed: u64) {
        let mut world = World::new(GRID, seed);
        prop_assert!(world.spawn(A));
        for n in 0..4_u32 {
            world.tick(&[], T + TICK_MIN * n);
        }
        prop_assert!(world.food().len() >= 3 + world.snakes().len());
    }

    #[test]
    fn a_turn_within_the_grace_saves_and_a_later_one_does_not(
        late_ms in 0..100_u64,
        up: bool,
    ) {
        let mut world = World::arrange(GRID, &[(1, &[(11, 5), (10, 5), (9, 5)], Direction::Right)]);
        let step = world.tick(&[], T);
        prop_assert_eq!(&step.at_wall, &[A]);
        prop_assert!(step.moves.is_empty() && step.deaths.is_empty());
        prop_assert_eq!(world.settle_due(), Some(T + WALL_GRACE));
        let late = Duration::from_millis(late_ms);
        let (turn, next) =
            if up { (Direction::Up, Cell(11, 4)) } else { (Direction::Down, Cell(11, 6)) };
        let step = world.tick(&[input(A, turn, T + late)], T + Duration::from_millis(210));
        if late <= WALL_GRACE {
            prop_assert_eq!(&step.moves, &[(A, next, false)]);
        } else {
            prop_assert_eq!(causes(&step), [(A, Cause::Wall)]);
        }
    }

    #[test]
    fn a_bot_alone_ends_only_where_no_way_is_left(seed: u64) {
        let mut world = World::new(GRID, seed);
        prop_assert!(world.spawn(A));
        for n in 0..300_u32 {
            let now = T + TICK_MIN * n;
            let head = world.snakes()[&A].head();
            let ways = Direction::ALL.iter().filter_map(|d| GRID.step(head, *d));
            let open = ways.filter(|cell| !world.is_snake(*cell)).count();
            let turn = bot::steer(&world, A).map(|d| input(A, d, now));
            if !world.tick(turn.as_slice(), now).deaths.is_empty() {
                prop_assert_eq!(open, 0);
                return Ok(());
            }
        }
    }
}

#[test]
fn the_grace_is_shorter_than_the_shortest_tick() {
    assert!(WALL_GRACE < TICK_MIN);
}

#[test]
fn without_a_turn_the_wall_ends_a_snake_when_the_grace_is_over_not_before() {
    let mut world = World::arrange(GRID, &[(1, &[(11, 5), (10, 5), (9, 5)], Direction::Right)]);
    world.tick(&[], T);
    let before = world.settle(&[], T + WALL_GRACE - Duration::from_millis(1));
    assert_eq!(before, Step::default());
    // A tick that comes early, after a late one, does not shorten the grace.
    assert!(world.tick(&[], T + WALL_GRACE / 2).deaths.is_empty());
    let over = world.settle(&[], T + WALL_GRACE);
    assert_eq!(causes(&over), [(A, Cause::Wall)]);
    assert!(world.snakes().is_empty() && world.settle_due().is_none());
}

#[test]
fn in_a_corner_only_the_open_way_saves() {
    let body: &[(u8, u8)] = &[(11, 0), (10, 0), (9, 0)];
    for (turn, saved) in [(Direction::Up, false), (Direction::Down, true), (Direction::Left, false)]
    {
        let mut world = World::arrange(GRID, &[(1, body, Direction::Right)]);
        world.tick(&[], T);
        let step = world.tick(&[input(A, turn, T)], T + TICK_MIN);
        assert_eq!(step.deaths.is_empty(), saved, "{turn:?}");
    }
}

#[test]
fn quick_turns_wait_for_their_ticks_and_a_reversal_is_ignored() {
    let body: &[(u8, u8)] = &[(5, 5), (4, 5), (3, 5)];
    let mut world = World::arrange(GRID, &[(1, body, Direction::Right)]);
    let turns = [Direction::Left, Direction::Up, Direction::Up, Direction::Left];
    let inputs = turns.map(|turn| input(A, turn, T));
    let heads: Vec<Cell> = (0..3_u32)
        .map(|n| world.tick(if n == 0 { &inputs } else { &[] }, T + TICK_MIN * n).moves[0].1)
        .collect();
    assert_eq!(heads, [Cell(5, 4), Cell(4, 4), Cell(3, 4)]);
}

#[test]
fn eating_makes_one_longer_and_gives_a_point() {
    let mut world = World::arrange(GRID, &[(1, &[(5, 5), (4, 5), (3, 5)], Direction::Right)]);
    world.put_food(6, 5);
    let step = world.tick(&[], T);
    assert_eq!((step.moves, step.eaten), (vec![(A, Cell(6, 5), true)], vec![Cell(6, 5)]));
    let snake = &world.snakes()[&A];
    assert_eq!((snake.body.len(), snake.score), (4, POINTS_FOOD));
}

#[test]
fn who_is_run_into_is_rewarded_and_the_dead_leave_food() {
    let mut world = World::arrange(
        GRID,
        &[
            (1, &[(5, 5), (4, 5), (3, 5)], Direction::Right),
            (2, &[(6, 3), (6, 4), (6, 5), (6, 6)], Direction::Up),
        ],
    );
    let step = world.tick(&[], T);
    assert_eq!(causes(&step), [(A, Cause::Other(B))]);
    assert_eq!(world.snakes()[&B].score, POINTS_RIVAL);
    assert!(world.food().contains(&Cell(5, 5)) && world.food().contains(&Cell(3, 5)));
}

#[test]
fn two_heads_that_meet_both_end_without_a_reward() {
    // On the same cell, and each on the other's head.
    for gap in [7, 6] {
        let right: &[(u8, u8)] = &[(5, 5), (4, 5), (3, 5)];
        let left = [(gap, 5), (gap + 1, 5), (gap + 2, 5)];
        let mut world =
            World::arrange(GRID, &[(1, right, Direction::Right), (2, &left, Direction::Left)]);
        let step = world.tick(&[], T);
        assert_eq!(causes(&step), [(A, Cause::Other(B)), (B, Cause::Other(A))]);
    }
}

#[test]
fn a_tail_that_moves_away_makes_room_and_one_that_stays_does_not() {
    // The head follows its own tail in a square of four.
    let square: &[(u8, u8)] = &[(5, 5), (6, 5), (6, 6), (5, 6)];
    let mut world = World::arrange(GRID, &[(1, square, Direction::Down)]);
    assert!(world.tick(&[], T).deaths.is_empty());
    // Another's tail stays, since that one eats in the same tick.
    let mut world = World::arrange(
        GRID,
        &[
            (1, &[(5, 5), (4, 5), (3, 5)], Direction::Right),
            (2, &[(6, 3), (6, 4), (6, 5)], Direction::Up),
        ],
    );
    world.put_food(6, 2);
    assert_eq!(causes(&world.tick(&[], T)), [(A, Cause::Other(B))]);
}

#[test]
fn a_new_snake_is_clear_of_others_and_lives_once() {
    let mut world = World::new(GRID, 3);
    assert!(world.spawn(A));
    assert!(!world.spawn(A), "it lives already");
    let came = (2..200).filter(|n| world.spawn(SnakeId(*n))).count();
    assert!(came < 198, "a crowded board takes no more");
    assert_eq!(world.remove(A).map(|snake| snake.score), Some(0));
    assert!(world.remove(A).is_none());
}
