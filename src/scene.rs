//! The scene: what a viewer sees at one moment, and the fold that leads from one moment to the next.
//!
//! `fold(snapshot + tail) = fold(log)`: whoever starts with a snapshot and applies what follows ends with the same scene as
//! somebody who heard everything. The same function is written once here and once in the SDK; `tests/vectors/fold.json`
//! holds cases that both run.

use serde::{Deserialize, Serialize};

use crate::clock::Millis;
use crate::live::{Event, Pin, ShowState};

/// What a viewer sees.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Scene {
    pub show: Stage,
    pub pin: Option<Pin>,
}

/// The show itself.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Stage {
    pub title: String,
    pub state: StageState,
    pub started_at: Option<Millis>,
    pub ended_at: Option<Millis>,
}

/// As [`ShowState`], on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum StageState {
    Scheduled,
    Live,
    Ended,
}

impl From<ShowState> for StageState {
    fn from(it: ShowState) -> StageState {
        match it {
            ShowState::Scheduled => StageState::Scheduled,
            ShowState::Live => StageState::Live,
            ShowState::Ended => StageState::Ended,
        }
    }
}

impl Scene {
    /// A show that nothing has happened in.
    pub fn new(title: &str) -> Scene {
        let show = Stage { title: title.into(), state: StageState::Scheduled, started_at: None, ended_at: None };
        Scene { show, pin: None }
    }

    /// What the scene becomes when `event` happens. Entries for the desk or for one buyer change nothing on screen.
    pub fn apply(&mut self, event: &Event) {
        match event {
            Event::ShowStarted { started_at } => {
                self.show.state = StageState::Live;
                self.show.started_at = Some(*started_at);
            }
            Event::ShowEnded { ended_at } => {
                self.show.state = StageState::Ended;
                self.show.ended_at = Some(*ended_at);
            }
            Event::PinSet(pin) => self.pin = Some(pin.clone()),
            Event::PinCleared { .. } => self.pin = None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Deserialize)]
    struct Case {
        name: String,
        scene: Scene,
        entries: Vec<Event>,
        expected: Scene,
    }

    #[test]
    fn the_fold_does_what_the_shared_vectors_say() {
        let cases: Vec<Case> = serde_json::from_str(include_str!("../tests/vectors/fold.json")).unwrap();
        assert!(!cases.is_empty());
        for Case { name, mut scene, entries, expected } in cases {
            for event in &entries {
                scene.apply(event);
            }
            assert_eq!(scene, expected, "{name}");
        }
    }
}
