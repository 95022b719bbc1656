//! A share group's partition beside a model that keeps every record by itself.

use proptest::prelude::*;

use super::*;

const TERMS: Terms = Terms { lock_ms: 10, deliveries_max: 3, live_max: 12 };
const RECORDS: usize = 40;
const NOTHING: One = One { count: 0, out: None, done: true };

#[derive(Clone, Debug)]
enum Step {
    Deliver(usize, usize, usize, usize),
    Judge(usize, usize, usize, Vec<Verdict>),
    Pass(u64),
    Expire,
    Gone(usize),
    LogStarts(usize),
    Restart,
}

/// A record of the model.
#[derive(Clone, Debug, PartialEq)]
struct One {
    count: u16,
    out: Option<(usize, u64)>,
    done: bool,
}

/// What was looked at, in order; the rest of the log was not.
#[derive(Default)]
struct Model {
    all: Vec<One>,
    now: u64,
}

type Counted = Vec<(i64, u16)>;

impl Model {
    fn live(&self) -> usize {
        self.all.iter().filter(|one| !one.done).count()
    }

    fn deliver(&mut self, member: usize, first: usize, last: usize, max: usize) -> Counted {
        let out = Some((member, self.now + TERMS.lock_ms));
        let mut given = Vec::new();
        for offset in first..=last {
            let is_full = self.live() >= usize::try_from(TERMS.live_max).unwrap();
            match self.all.get_mut(offset) {
                _ if given.len() >= max => break,
                Some(one) if one.done || one.out.is_some() => {}
                Some(one) => {
                    (one.count, one.out) = (one.count + 1, out);
                    given.push((signed(offset), one.count));
                }
                None if is_full => break,
                None => {
                    // What was passed over is not in the log.
                    self.all.resize(offset, NOTHING);
                    self.all.push(One { count: 1, out, done: false });
                    given.push((signed(offset), 1));
                }
            }
        }
        given
    }

    fn judge(
        &mut self,
        member: usize,
        first: usize,
        last: usize,
        verdicts: &[Verdict],
    ) -> Result<Counted, VerdictError> {
        if verdicts.len() != 1 && verdicts.len() != last - first + 1 {
            return Err(VerdictError::Malformed);
        }
        let has = |out: (usize, u64)| out.0 == member && out.1 > self.now;
        let is_out = |offset| self.all.get(offset).and_then(|one: &One| one.out).is_some_and(has);
        if !(first..=last).all(is_out) {
            return Err(VerdictError::NotOut);
        }
        let (until, mut dead) = (self.now + TERMS.lock_ms, Vec::new());
        let verdicts = verdicts.iter().cycle();
        for (offset, verdict) in (first..=last).zip(verdicts) {
            let one = &mut self.all[offset];
            let is_dead = match verdict {
                Verdict::Renew => {
                    one.out = Some((member, until));
                    false
                }
                Verdict::Release => back(one),
                verdict => {
                    (one.out, one.done) = (None, true);
                    *verdict == Verdict::Reject
                }
            };
            if is_dead {
                dead.push((signed(offset), one.count));
            }
        }
        Ok(dead)
    }

    fn take_back(&mut self, is_due: impl Fn((usize, u64)) -> bool) -> Counted {
        let mut dead = Vec::new();
        for (offset, one) in (0..).zip(&mut self.all) {
            if one.out.is_some_and(&is_due) && back(one) {
                dead.push((offset, one.count));
            }
        }
        dead
    }

    fn log_starts(&mut self, offset: usize) {
        let below = offset.min(self.all.len());
        self.all[..below].fill(NOTHING);
        self.all.resize(self.all.len().max(offset), NOTHING);
    }
}

/// Takes a record back; true if nobody gets it again.
fn back(one: &mut One) -> bool {
    one.out = None;
    one.done = one.count >= TERMS.deliveries_max;
    one.done
}

fn signed(offset: usize) -> i64 {
    i64::try_from(offset).unwrap()
}

fn offsets(of: &[Delivery]) -> Counted {
    of.iter().flat_map(|one| (one.first..=one.last).map(|offset| (offset, one.count))).collect()
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let verdict = prop_oneof![
        3 => Just(Verdict::Accept),
        2 => Just(Verdict::Release),
        1 => Just(Verdict::Reject),
        1 => Just(Verdict::Renew),
        1 => Just(Verdict::Gap),
    ];
    let verdicts = proptest::collection::vec(verdict, 1..5);
    let step = prop_oneof![
        4 => (0..3_usize, 0..RECORDS, 0..9_usize, 0..9_usize)
            .prop_map(|(m, first, more, max)| Step::Deliver(m, first, first + more, max)),
        4 => (0..3_usize, 0..RECORDS, 0..5_usize, verdicts)
            .prop_map(|(m, first, more, verdicts)| Step::Judge(m, first, first + more, verdicts)),
        2 => (0..12_u64).prop_map(Step::Pass),
        1 => Just(Step::Expire),
        1 => (0..3_usize).prop_map(Step::Gone),
        1 => (0..RECORDS).prop_map(Step::LogStarts),
        1 => Just(Step::Restart),
    ];
    proptest::collection::vec(step, 0..80)
}

/// Does a step on both; returns what each says of it.
fn both(
    step: Step,
    shared: &mut Shared,
    model: &mut Model,
) -> (Result<Counted, VerdictError>, Result<Counted, VerdictError>) {
    let members: [Arc<str>; 3] = ["a".into(), "b".into(), "c".into()];
    let now = model.now;
    match step {
        Step::Deliver(member, first, last, max) => {
            let range = (signed(first), signed(last));
            let given = shared.deliver(&members[member], range, max as u64, &TERMS, now);
            (Ok(offsets(&given)), Ok(model.deliver(member, first, last, max)))
        }
        Step::Judge(member, first, last, verdicts) => {
            let (before, range) = (shared.clone(), (signed(first), signed(last)));
            let judged = shared.judge(&members[member], range, &verdicts, &TERMS, now);
            assert!(judged.is_ok() || before == *shared);
            let judged = judged.map(|dead| offsets(&dead));
            (judged, model.judge(member, first, last, &verdicts))
        }
        Step::Pass(ms) => {
            model.now += ms;
            (Ok(Vec::new()), Ok(Vec::new()))
        }
        Step::Expire => {
            let expected = model.take_back(|(_, until)| until <= now);
            (Ok(offsets(&shared.expire(&TERMS, now))), Ok(expected))
        }
        Step::Gone(member) => {
            let expected = model.take_back(|(has, _)| has == member);
            (Ok(offsets(&shared.gone(&members[member], &TERMS))), Ok(expected))
        }
        Step::LogStarts(offset) => {
            shared.log_starts(signed(offset));
            model.log_starts(offset);
            (Ok(Vec::new()), Ok(Vec::new()))
        }
        Step::Restart => {
            let kept = serde_json::to_vec(&shared.saved()).unwrap();
            *shared = Shared::restored(&serde_json::from_slice(&kept).unwrap()).unwrap();
            // Nobody has them any more, which is as if all were gone.
            let expected = model.take_back(|_| true);
            (Ok(offsets(&shared.exhausted(&TERMS))), Ok(expected))
        }
    }
}

proptest! {
    #[test]
    fn every_record_is_where_the_model_has_it(steps in steps()) {
        let (mut shared, mut model) = (Shared::new(0), Model::default());
        for step in steps {
            let (found, expected) = both(step, &mut shared, &mut model);
            prop_assert_eq!(found, expected);
            let all = &model.all;
            let start = all.iter().position(|one| !one.done).unwrap_or(all.len());
            prop_assert_eq!(shared.start(), signed(start));
            prop_assert_eq!(shared.end(), signed(all.len()));
            let next = all.iter().position(|one| !one.done && one.out.is_none());
            prop_assert_eq!(shared.next(), signed(next.unwrap_or(all.len())));
            let deadline = all.iter().filter_map(|one| one.out.map(|(_, until)| until)).min();
            prop_assert_eq!(shared.first_deadline_ms(), deadline);
            prop_assert_eq!(shared.live(), model.live() as u64);
            prop_assert!(all.iter().all(|one| one.count <= TERMS.deliveries_max));
            prop_assert!(shared.runs.len() <= 2 * model.live() + 1);
        }
    }
}

#[test]
fn what_was_kept_without_sense_is_not_taken() {
    for runs in [vec![(4, 1, false)], vec![(7, 1, false), (6, 1, true)], vec![(i64::MAX, 1, true)]]
    {
        assert_eq!(Shared::restored(&Saved { start: 5, runs }), None);
    }
}
