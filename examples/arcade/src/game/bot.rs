//! Snakes that the room plays itself, so that nobody plays alone: greedy, and easy to outwit.

use super::grid::Direction;
use super::world::{SnakeId, World};

/// Where a bot wants to head now: towards the nearest food, never into what it sees one step
/// ahead, and rather not into a cell without a way out.
pub(crate) fn steer(world: &World, id: SnakeId) -> Option<Direction> {
    let snake = world.snakes().get(&id)?;
    let head = snake.head();
    let goal = world.food().iter().copied().min_by_key(|cell| cell.distance(head)).unwrap_or(head);
    let grid = world.grid();
    let ways_out = |from| {
        let open = |d: &Direction| grid.step(from, *d).is_some_and(|c| !world.is_snake(c));
        Direction::ALL.iter().filter(|d| open(d)).count()
    };
    let best = Direction::ALL
        .into_iter()
        .filter(|d| *d != snake.heading.opposite())
        .filter_map(|d| Some((d, grid.step(head, d)?)))
        .filter(|(_, cell)| !world.is_snake(*cell))
        .min_by_key(|(d, cell)| (ways_out(*cell) == 0, cell.distance(goal), *d != snake.heading))?;
    (best.0 != snake.heading).then_some(best.0)
}
