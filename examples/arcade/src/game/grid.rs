//! Cells of the board and the four directions.

use serde::{Deserialize, Serialize};

/// A place on the board; 0, 0 is the top left corner. On the wire: `[x, y]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub(crate) struct Cell(pub(crate) u8, pub(crate) u8);

impl Cell {
    /// Steps between two cells when nothing is in the way.
    pub(crate) fn distance(self, other: Cell) -> u16 {
        u16::from(self.0.abs_diff(other.0)) + u16::from(self.1.abs_diff(other.1))
    }
}

/// Where a snake is heading. On the wire: 0 up, 1 right, 2 down, 3 left.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "u8", into = "u8")]
pub(crate) enum Direction {
    Up,
    Right,
    Down,
    Left,
}

impl Direction {
    pub(crate) const ALL: [Direction; 4] =
        [Direction::Up, Direction::Right, Direction::Down, Direction::Left];

    pub(crate) fn opposite(self) -> Direction {
        match self {
            Direction::Up => Direction::Down,
            Direction::Right => Direction::Left,
            Direction::Down => Direction::Up,
            Direction::Left => Direction::Right,
        }
    }

    /// Whether a snake that heads along `self` turns when told to head along `other`.
    pub(crate) fn turns_into(self, other: Direction) -> bool {
        self != other && self != other.opposite()
    }
}

impl TryFrom<u8> for Direction {
    type Error = String;

    fn try_from(number: u8) -> Result<Direction, String> {
        Self::ALL
            .get(usize::from(number))
            .copied()
            .ok_or_else(|| format!("direction {number} is not one of 0 to 3"))
    }
}

impl From<Direction> for u8 {
    fn from(direction: Direction) -> u8 {
        direction as u8
    }
}

/// The board's size. Beyond its edges is the wall.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Grid {
    pub(crate) width: u8,
    pub(crate) height: u8,
}

impl Grid {
    /// The neighbour of `cell`, or nothing when the wall is there.
    pub(crate) fn step(self, cell: Cell, direction: Direction) -> Option<Cell> {
        let (x, y) = match direction {
            Direction::Up => (cell.0, cell.1.checked_sub(1)?),
            Direction::Right => (cell.0.checked_add(1)?, cell.1),
            Direction::Down => (cell.0, cell.1.checked_add(1)?),
            Direction::Left => (cell.0.checked_sub(1)?, cell.1),
        };
        (x < self.width && y < self.height).then_some(Cell(x, y))
    }
}
