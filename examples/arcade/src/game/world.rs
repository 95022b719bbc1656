//! One room's board: what a tick does, in order, and nothing about who watches it.
//!
//! Invariants, after every call: no two snakes share a cell, no snake crosses itself, food is never
//! under a snake, every snake lies on the board in one connected line, and there are at most
//! [`FOOD_MAX`] pieces of food.
//!
//! The wall forgives for [`WALL_GRACE`]: a snake whose next cell is the wall stops in front of it,
//! and a turn that arrives within the grace saves it at the price of one tick. It is given once per
//! approach and only for a turn that leads somewhere, so nobody can stay in a corner by turning.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use super::chance::Chance;
use super::grid::{Cell, Direction, Grid};

/// How long a snake in front of the wall may still turn. Shorter than the shortest tick.
pub(crate) const WALL_GRACE: Duration = Duration::from_millis(40);

/// Cells of a new snake.
pub(crate) const LENGTH_AT_START: usize = 3;

/// Points for a piece of food; it also makes the snake one cell longer.
pub(crate) const POINTS_FOOD: u32 = 1;

/// Points for a snake against which another one ends.
pub(crate) const POINTS_RIVAL: u32 = 3;

/// Most pieces of food on the board; what a dead snake would leave beyond that is not left.
pub(crate) const FOOD_MAX: usize = 80;

/// Turns that wait for the ticks to come; more are ignored, so that no key press acts late.
const TURNS_WAITING_MAX: usize = 3;

/// Free cells that a new snake should have ahead, tried in this order.
const CLEAR_AHEAD: [usize; 3] = [10, 5, 2];

/// Names a snake within its room.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize)]
#[serde(transparent)]
pub(crate) struct SnakeId(pub(crate) u32);

/// A player's wish to turn and when it arrived, since the room's start.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Input {
    pub(crate) snake: SnakeId,
    pub(crate) direction: Direction,
    pub(crate) at: Duration,
}

/// One snake, head first.
#[derive(Clone, Debug)]
pub(crate) struct Snake {
    pub(crate) body: VecDeque<Cell>,
    pub(crate) heading: Direction,
    pub(crate) score: u32,
    turns: VecDeque<Direction>,
    /// Set while the snake stands in front of the wall: until when a turn saves it.
    wall_until: Option<Duration>,
}

impl Snake {
    pub(crate) fn head(&self) -> Cell {
        self.body[0]
    }
}

/// Why a snake ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cause {
    Wall,
    Itself,
    Other(SnakeId),
}

/// A snake that ended, with the points that it had.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Death {
    pub(crate) snake: SnakeId,
    pub(crate) cause: Cause,
    pub(crate) score: u32,
}

/// What a call changed, enough for a watcher to follow without seeing the whole board.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Step {
    /// New heads; `true` when the tail stayed, because the snake grew.
    pub(crate) moves: Vec<(SnakeId, Cell, bool)>,
    pub(crate) eaten: Vec<Cell>,
    pub(crate) placed: Vec<Cell>,
    pub(crate) deaths: Vec<Death>,
    /// Snakes that stand in front of the wall now.
    pub(crate) at_wall: Vec<SnakeId>,
}

/// One room's board.
#[derive(Clone, Debug)]
pub(crate) struct World {
    grid: Grid,
    snakes: BTreeMap<SnakeId, Snake>,
    food: BTreeSet<Cell>,
    chance: Chance,
}

impl World {
    pub(crate) fn new(grid: Grid, seed: u64) -> World {
        assert!(grid.width >= 8 && grid.height >= 8, "a board has room for a new snake");
        let food = BTreeSet::new();
        World { grid, snakes: BTreeMap::new(), food, chance: Chance::new(seed) }
    }

    pub(crate) fn grid(&self) -> Grid {
        self.grid
    }

    pub(crate) fn snakes(&self) -> &BTreeMap<SnakeId, Snake> {
        &self.snakes
    }

    pub(crate) fn food(&self) -> &BTreeSet<Cell> {
        &self.food
    }

    /// Puts a new snake where it has room ahead. False when it lives already or no place is free.
    pub(crate) fn spawn(&mut self, id: SnakeId) -> bool {
        if self.snakes.contains_key(&id) {
            return false;
        }
        for ahead in CLEAR_AHEAD {
            for _ in 0..32 {
                let head = self.random_cell();
                let heading = Direction::ALL[usize::from(self.chance.below(4))];
                if let Some(body) = self.clear_line(head, heading, ahead) {
                    let turns = VecDeque::with_capacity(TURNS_WAITING_MAX);
                    let snake = Snake { body, heading, score: 0, turns, wall_until: None };
                    self.snakes.insert(id, snake);
                    return true;
                }
            }
        }
        false
    }

    /// Takes a snake off the board, without food left behind: its player went away.
    pub(crate) fn remove(&mut self, id: SnakeId) -> Option<Snake> {
        self.snakes.remove(&id)
    }

    /// When [`World::settle`] is due: the end of the first grace that runs.
    pub(crate) fn settle_due(&self) -> Option<Duration> {
        self.snakes.values().filter_map(|snake| snake.wall_until).min()
    }

    /// Takes in what players wished, in order of arrival, and ends snakes whose grace at the wall
    /// is over. A tick does the same first.
    pub(crate) fn settle(&mut self, inputs: &[Input], now: Duration) -> Step {
        for input in inputs {
            self.take_in(input);
        }
        let over = |snake: &Snake| snake.wall_until.is_some_and(|until| until <= now);
        let ended: Vec<_> =
            self.snakes.iter().filter(|(_, s)| over(s)).map(|(id, _)| (*id, Cause::Wall)).collect();
        let mut step = Step::default();
        self.end(&ended, &mut step);
        step
    }

    /// Moves every snake by one cell and brings the food up to what the board should have.
    pub(crate) fn tick(&mut self, inputs: &[Input], now: Duration) -> Step {
        let mut step = self.settle(inputs, now);
        let targets = self.targets(now, &mut step);
        let ended = self.collisions(&targets);
        for (id, target) in &targets {
            if ended.iter().any(|(dead, _)| dead == id) {
                continue;
            }
            let Some(snake) = self.snakes.get_mut(id) else { continue };
            let grew = self.food.remove(target);
            snake.body.push_front(*target);
            if grew {
                snake.score += POINTS_FOOD;
                step.eaten.push(*target);
            } else {
                snake.body.pop_back();
            }
            step.moves.push((*id, *target, grew));
        }
        self.end(&ended, &mut step);
        self.top_up_food(&mut step);
        step
    }

    fn take_in(&mut self, input: &Input) {
        let grid = self.grid;
        let Some(snake) = self.snakes.get_mut(&input.snake) else { return };
        if let Some(until) = snake.wall_until {
            let leads_on = grid.step(snake.head(), input.direction).is_some();
            if input.at <= until && snake.heading.turns_into(input.direction) && leads_on {
                snake.wall_until = None;
                snake.turns.clear();
                snake.turns.push_back(input.direction);
            }
            return;
        }
        let from = snake.turns.back().copied().unwrap_or(snake.heading);
        if from.turns_into(input.direction) && snake.turns.len() < TURNS_WAITING_MAX {
            snake.turns.push_back(input.direction);
        }
    }

    /// Where each snake that moves wants its head; those with the wall ahead stop for the grace.
    fn targets(&mut self, now: Duration, step: &mut Step) -> BTreeMap<SnakeId, Cell> {
        let mut targets = BTreeMap::new();
        for (id, snake) in &mut self.snakes {
            if snake.wall_until.is_some() {
                step.at_wall.push(*id);
                continue;
            }
            if let Some(turn) = snake.turns.pop_front() {
                snake.heading = turn;
            }
            if let Some(target) = self.grid.step(snake.head(), snake.heading) {
                targets.insert(*id, target);
            } else {
                snake.wall_until = Some(now + WALL_GRACE);
                step.at_wall.push(*id);
            }
        }
        targets
    }

    /// Who ends when all heads move at once. A tail that moves away makes room in the same tick.
    fn collisions(&self, targets: &BTreeMap<SnakeId, Cell>) -> Vec<(SnakeId, Cause)> {
        let mut taken: BTreeMap<Cell, SnakeId> = BTreeMap::new();
        for (id, snake) in &self.snakes {
            let moves_away = targets.get(id).is_some_and(|target| !self.food.contains(target));
            let kept = snake.body.len() - usize::from(moves_away);
            taken.extend(snake.body.iter().take(kept).map(|cell| (*cell, *id)));
        }
        let mut ended = Vec::new();
        for (id, target) in targets {
            let same = |(other, cell): &(&SnakeId, &Cell)| *other != id && *cell == target;
            let cause = match taken.get(target) {
                Some(owner) if owner == id => Cause::Itself,
                Some(owner) => Cause::Other(*owner),
                None => match targets.iter().find(same) {
                    Some((other, _)) => Cause::Other(*other),
                    None => continue,
                },
            };
            ended.push((*id, cause));
        }
        ended
    }

    /// Takes dead snakes off, rewards those whom they ran into, leaves every second cell as food.
    fn end(&mut self, ended: &[(SnakeId, Cause)], step: &mut Step) {
        for (id, cause) in ended {
            let Some(snake) = self.snakes.remove(id) else { continue };
            step.deaths.push(Death { snake: *id, cause: *cause, score: snake.score });
            // Where two heads met, neither earned it.
            let met = |other: &SnakeId| ended.iter().any(|(dead, _)| dead == other);
            if let Cause::Other(other) = cause
                && !met(other)
                && let Some(rival) = self.snakes.get_mut(other)
            {
                rival.score += POINTS_RIVAL;
            }
            for cell in snake.body.iter().step_by(2) {
                self.place_food(*cell, step);
            }
        }
    }

    fn top_up_food(&mut self, step: &mut Step) {
        let wanted = 3 + self.snakes.len();
        // A crowded board may refuse some tries; the next tick tries again.
        for _ in 0..8 {
            if self.food.len() >= wanted {
                return;
            }
            let cell = self.random_cell();
            self.place_food(cell, step);
        }
    }

    fn place_food(&mut self, cell: Cell, step: &mut Step) {
        if self.food.len() < FOOD_MAX && self.is_free(cell) {
            self.food.insert(cell);
            step.placed.push(cell);
        }
    }

    fn random_cell(&mut self) -> Cell {
        let below = |chance: &mut Chance, bound: u8| {
            u8::try_from(chance.below(u16::from(bound))).unwrap_or(0)
        };
        let x = below(&mut self.chance, self.grid.width);
        Cell(x, below(&mut self.chance, self.grid.height))
    }

    /// Neither a snake nor food is there.
    pub(crate) fn is_free(&self, cell: Cell) -> bool {
        !self.food.contains(&cell) && !self.is_snake(cell)
    }

    pub(crate) fn is_snake(&self, cell: Cell) -> bool {
        self.snakes.values().any(|snake| snake.body.contains(&cell))
    }

    /// The body of a new snake at `head`, when it and `ahead` cells in front of it are free.
    fn clear_line(&self, head: Cell, heading: Direction, ahead: usize) -> Option<VecDeque<Cell>> {
        let mut body = VecDeque::from([head]);
        let mut cell = head;
        for _ in 1..LENGTH_AT_START {
            cell = self.grid.step(cell, heading.opposite())?;
            body.push_back(cell);
        }
        let mut front = head;
        for _ in 0..ahead {
            front = self.grid.step(front, heading)?;
            if self.is_snake(front) {
                return None;
            }
        }
        body.iter().all(|cell| self.is_free(*cell)).then_some(body)
    }

    /// A board as a test wants it.
    #[cfg(test)]
    pub(crate) fn arrange(grid: Grid, snakes: &[Arranged<'_>]) -> World {
        let mut world = World::new(grid, 7);
        for (id, cells, heading) in snakes {
            let body = cells.iter().map(|(x, y)| Cell(*x, *y)).collect();
            let turns = VecDeque::new();
            let snake = Snake { body, heading: *heading, score: 0, turns, wall_until: None };
            world.snakes.insert(SnakeId(*id), snake);
        }
        world
    }

    #[cfg(test)]
    pub(crate) fn put_food(&mut self, x: u8, y: u8) {
        self.food.insert(Cell(x, y));
    }
}

/// A snake as a test wants it: its number, its cells from the head on, its heading.
#[cfg(test)]
pub(crate) type Arranged<'a> = (u32, &'a [(u8, u8)], Direction);
