//! The lane: collect, decide together, commit once, answer everyone.
//!
//! Contenders for the same rows queue here instead of in the database. While one batch commits, the next one collects, so
//! batches grow with the load and nobody waits for a timer. There are two queues: [`Lane::control`] is never refused for
//! lack of room, its callers wait; [`Lane::request`] is refused at once when its queue is full. Control goes first.
//!
//! A request whose caller has gone, or that has waited for five seconds, is dropped before it is decided, never after.
//! Every caller gets an answer or learns that there will be none: a dropped command closes its caller's channel, whether
//! the lane has ended or its runner has panicked.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{Notify, mpsc, oneshot};

/// At most so many commands are decided together; what is left over goes into the next batch.
pub const BATCH_MAX: usize = 1_000;

/// So long a request may wait for its batch.
const REQUEST_PATIENCE: Duration = Duration::from_secs(5);

/// What runs the batches of one lane.
pub trait Batch: Send + 'static {
    type Command: Send + 'static;
    type Answer: Send + 'static;

    /// Decides and commits a batch. An empty one says that the lane was nudged or that the time asked for has come.
    fn run(&mut self, batch: Vec<Self::Command>) -> impl Future<Output = Ran<Self::Answer>> + Send;
}

/// The outcome of a batch.
pub struct Ran<A> {
    /// One per command, in their order. A missing one tells its caller [`Closed`].
    pub answers: Vec<A>,
    /// When to run again if nobody asks before; only the last batch's counts. A moment that has passed means at once.
    pub wake_at: Option<Instant>,
}

/// A handle to a lane; cloning it is cheap. The lane ends when the last handle is gone and its queues are empty.
pub struct Lane<C, A> {
    control: mpsc::Sender<Waiting<C, A>>,
    requests: mpsc::Sender<Waiting<C, A>>,
    nudges: Arc<Notify>,
}

/// There will be no answer: the lane has ended, or its batch has failed in a way that nobody foresaw.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the lane has closed")]
pub struct Closed;

/// Why a request got no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// The queue is full, or the request has waited too long. It was not decided: try again later.
    #[error("the lane is busy")]
    Busy,
    #[error("the lane has closed")]
    Closed,
}

/// How many commands may wait.
#[derive(Debug, Clone, Copy)]
pub struct Sizes {
    pub control: usize,
    pub requests: usize,
}

struct Waiting<C, A> {
    command: C,
    /// After this moment it is not decided any more; none for control.
    deadline: Option<Instant>,
    answer: oneshot::Sender<Outcome<A>>,
}

/// What comes through a caller's channel, if anything does.
enum Outcome<A> {
    Answered(A),
    TooLate,
}

impl<C, A> Clone for Lane<C, A> {
    fn clone(&self) -> Lane<C, A> {
        Lane { control: self.control.clone(), requests: self.requests.clone(), nudges: self.nudges.clone() }
    }
}

impl<C: Send + 'static, A: Send + 'static> Lane<C, A> {
    /// A lane with its task, which lives until the last handle is dropped or the runner panics.
    pub fn spawn(runner: impl Batch<Command = C, Answer = A>, sizes: Sizes) -> Lane<C, A> {
        let (control, control_queue) = mpsc::channel(sizes.control);
        let (requests, request_queue) = mpsc::channel(sizes.requests);
        let nudges = Arc::new(Notify::new());
        let task = Task { control: control_queue, requests: request_queue, nudges: nudges.clone(), wake_at: None };
        tokio::spawn(task.run(runner));
        Lane { control, requests, nudges }
    }

    /// A command that must not be refused: waits for room in the queue, then for the answer.
    ///
    /// # Errors
    /// The lane has closed; whether the command was committed has to be looked up.
    pub async fn control(&self, command: C) -> Result<A, Closed> {
        let (answer, receiver) = oneshot::channel();
        self.control.send(Waiting { command, deadline: None, answer }).await.map_err(|_| Closed)?;
        match receiver.await {
            Ok(Outcome::Answered(it)) => Ok(it),
            Ok(Outcome::TooLate) | Err(_) => Err(Closed),
        }
    }

    /// A command that may be refused: waits for the answer only.
    ///
    /// # Errors
    /// The queue is full, the request has waited too long, or the lane has closed.
    pub async fn request(&self, command: C) -> Result<A, Refused> {
        let (answer, receiver) = oneshot::channel();
        let deadline = Some(Instant::now() + REQUEST_PATIENCE);
        self.requests.try_send(Waiting { command, deadline, answer }).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => Refused::Busy,
            mpsc::error::TrySendError::Closed(_) => Refused::Closed,
        })?;
        match receiver.await {
            Ok(Outcome::Answered(it)) => Ok(it),
            Ok(Outcome::TooLate) => Err(Refused::Busy),
            Err(_) => Err(Refused::Closed),
        }
    }

    /// Runs the lane soon, with whatever waits: something outside of it has changed.
    pub fn nudge(&self) {
        self.nudges.notify_one();
    }

    /// Requests that wait for their batch.
    pub fn waiting(&self) -> usize {
        self.requests.max_capacity() - self.requests.capacity()
    }

    /// Whether the lane's task has ended although there are handles: its runner has panicked.
    pub fn is_closed(&self) -> bool {
        self.requests.is_closed()
    }
}

/// What the lane woke for.
enum Gathered {
    Commands,
    /// A nudge, or the time that the last batch asked for: the runner is called even with nothing to decide.
    Woken,
    /// All handles are gone and nothing is left. What becomes due later is seen by whoever opens the next lane.
    Ended,
}

struct Task<C, A> {
    control: mpsc::Receiver<Waiting<C, A>>,
    requests: mpsc::Receiver<Waiting<C, A>>,
    nudges: Arc<Notify>,
    /// What the last batch asked for.
    wake_at: Option<Instant>,
}

impl<C: Send + 'static, A: Send + 'static> Task<C, A> {
    async fn run(mut self, mut runner: impl Batch<Command = C, Answer = A>) {
        let mut waiting = Vec::new();
        loop {
            let woken = match self.gather(&mut waiting).await {
                Gathered::Commands => false,
                Gathered::Woken => true,
                Gathered::Ended => return,
            };
            let (commands, callers) = still_wanted(&mut waiting, Instant::now());
            if commands.is_empty() && !woken {
                continue; // All callers have gone, so there is nothing to commit.
            }
            // A panic in here drops the callers' channels with this task, which tells them that the lane has closed.
            let ran = runner.run(commands).await;
            self.wake_at = ran.wake_at;
            for (caller, answer) in callers.into_iter().zip(ran.answers) {
                // A caller who has gone meanwhile asks again and gets the same answer.
                let _ = caller.send(Outcome::Answered(answer));
            }
        }
    }

    /// Waits for something to do, then takes all that waits, control first.
    async fn gather(&mut self, waiting: &mut Vec<Waiting<C, A>>) -> Gathered {
        let mut gathered = Gathered::Commands;
        let wake_at = self.wake_at;
        let time = async {
            match wake_at {
                Some(it) => tokio::time::sleep_until(it.into()).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            taken = self.control.recv_many(waiting, BATCH_MAX) => {
                if taken == 0 {
                    return self.drain_requests(waiting).await;
                }
            }
            // Closed at the same moment as control, since every handle has both: the branch above sees it.
            Some(it) = self.requests.recv() => waiting.push(it),
            () = self.nudges.notified() => gathered = Gathered::Woken,
            () = time => gathered = Gathered::Woken,
        }
        while waiting.len() < BATCH_MAX
            && let Ok(it) = self.control.try_recv()
        {
            waiting.push(it);
        }
        while waiting.len() < BATCH_MAX
            && let Ok(it) = self.requests.try_recv()
        {
            waiting.push(it);
        }
        // The request that woke us may stand before control that came since.
        waiting.sort_by_key(|it| it.deadline.is_some());
        gathered
    }

    /// The last handle is gone: what was sent before is still decided.
    async fn drain_requests(&mut self, waiting: &mut Vec<Waiting<C, A>>) -> Gathered {
        match self.requests.recv_many(waiting, BATCH_MAX).await {
            0 => Gathered::Ended,
            _ => Gathered::Commands,
        }
    }
}

type Callers<A> = Vec<oneshot::Sender<Outcome<A>>>;

/// Parts commands from callers, without the requests that nobody waits for and those that have waited too long: what is
/// decided is promised, so nothing is decided that the caller will not hear of. Control is decided even if its caller has
/// gone: a payment is true whoever listens.
fn still_wanted<C, A>(waiting: &mut Vec<Waiting<C, A>>, now: Instant) -> (Vec<C>, Callers<A>) {
    let mut commands = Vec::with_capacity(waiting.len());
    let mut callers = Vec::with_capacity(waiting.len());
    for it in waiting.drain(..) {
        match it.deadline {
            Some(_) if it.answer.is_closed() => {}
            Some(deadline) if deadline <= now => {
                // It was open a line above; should it have closed since, nobody waits for this word.
                let _ = it.answer.send(Outcome::TooLate);
            }
            _ => {
                commands.push(it.command);
                callers.push(it.answer);
            }
        }
    }
    (commands, callers)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Tells the test of each batch and runs it when the test says so, with the wake time that it says.
    struct Told {
        batches: mpsc::Sender<Vec<&'static str>>,
        go: mpsc::Receiver<Option<Instant>>,
    }

    impl Batch for Told {
        type Command = &'static str;
        type Answer = String;

        async fn run(&mut self, batch: Vec<&'static str>) -> Ran<String> {
            assert!(!batch.contains(&"panic"), "asked for");
            let answers = batch.iter().map(|it| format!("{it} done")).collect();
            self.batches.send(batch).await.expect("the test listens");
            let wake_at = self.go.recv().await.expect("the test says when to go on");
            Ran { answers, wake_at }
        }
    }

    struct Test {
        lane: Lane<&'static str, String>,
        batches: mpsc::Receiver<Vec<&'static str>>,
        go: mpsc::Sender<Option<Instant>>,
    }

    fn lane(requests: usize) -> Test {
        let (batch_sender, batches) = mpsc::channel(100);
        let (go, go_receiver) = mpsc::channel(100);
        let lane = Lane::spawn(Told { batches: batch_sender, go: go_receiver }, Sizes { control: 2, requests });
        Test { lane, batches, go }
    }

    type Asked<E> = tokio::task::JoinHandle<Result<String, E>>;

    impl Test {
        fn control(&self, command: &'static str) -> Asked<Closed> {
            let lane = self.lane.clone();
            tokio::spawn(async move { lane.control(command).await })
        }

        /// Returns once the request is in the queue.
        async fn request(&self, command: &'static str) -> Asked<Refused> {
            let before = self.lane.waiting();
            let lane = self.lane.clone();
            let asked = tokio::spawn(async move { lane.request(command).await });
            while self.lane.waiting() == before {
                tokio::task::yield_now().await;
            }
            asked
        }

        /// A batch that is under way, so that everything after it collects.
        async fn busy(&mut self) -> Asked<Closed> {
            let first = self.control("first");
            assert_eq!(self.batches.recv().await, Some(vec!["first"]));
            first
        }
    }

    #[tokio::test]
    async fn what_comes_while_one_batch_commits_is_the_next_one_with_control_in_front() {
        let mut test = lane(10);
        let first = test.busy().await;
        let (a, b) = (test.request("a").await, test.request("b").await);
        let pay = test.control("pay");
        while test.lane.control.capacity() == test.lane.control.max_capacity() {
            tokio::task::yield_now().await;
        }
        test.go.send(None).await.unwrap();
        assert_eq!(first.await.unwrap(), Ok("first done".into()));
        assert_eq!(test.batches.recv().await, Some(vec!["pay", "a", "b"]));
        test.go.send(None).await.unwrap();
        assert_eq!(a.await.unwrap(), Ok("a done".into()));
        assert_eq!(b.await.unwrap(), Ok("b done".into()));
        assert_eq!(pay.await.unwrap(), Ok("pay done".into()));
    }

    #[tokio::test]
    async fn a_full_queue_refuses_requests_and_lets_control_wait() {
        let mut test = lane(1);
        let first = test.busy().await;
        let a = test.request("a").await;
        assert_eq!(test.lane.request("b").await, Err(Refused::Busy));
        let controls: Vec<_> = ["1", "2", "3", "4", "5"].map(|it| test.control(it)).into_iter().collect();
        for _ in 0..10 {
            test.go.send(None).await.unwrap();
        }
        first.await.unwrap().unwrap();
        a.await.unwrap().unwrap();
        for it in controls {
            it.await.unwrap().unwrap();
        }
    }

    #[tokio::test]
    async fn a_batch_is_bounded() {
        let mut test = lane(BATCH_MAX + 1);
        let first = test.busy().await;
        for _ in 0..=BATCH_MAX {
            test.request("a").await;
        }
        test.go.send(None).await.unwrap();
        first.await.unwrap().unwrap();
        assert_eq!(test.batches.recv().await.unwrap().len(), BATCH_MAX);
        test.go.send(None).await.unwrap();
        assert_eq!(test.batches.recv().await.unwrap().len(), 1);
    }

    #[tokio::test]
    async fn requests_without_a_caller_are_not_decided() {
        let mut test = lane(10);
        let _first = test.busy().await;
        let (gone, stays) = (test.request("gone").await, test.request("stays").await);
        gone.abort();
        assert!(gone.await.unwrap_err().is_cancelled());
        test.go.send(None).await.unwrap();
        assert_eq!(test.batches.recv().await, Some(vec!["stays"]));
        test.go.send(None).await.unwrap();
        stays.await.unwrap().unwrap();
    }

    #[test]
    fn requests_that_waited_too_long_are_told_so_and_control_never_is() {
        let now = Instant::now();
        let (late, mut late_caller) = oneshot::channel::<Outcome<()>>();
        let (fresh, _fresh_caller) = oneshot::channel();
        let (control, control_caller) = oneshot::channel();
        drop(control_caller);
        let mut waiting = vec![
            Waiting { command: "late", deadline: Some(now), answer: late },
            Waiting { command: "fresh", deadline: Some(now + REQUEST_PATIENCE), answer: fresh },
            Waiting { command: "control", deadline: None, answer: control },
        ];
        let (commands, callers) = still_wanted(&mut waiting, now);
        assert_eq!((commands, callers.len()), (vec!["fresh", "control"], 2));
        assert!(matches!(late_caller.try_recv(), Ok(Outcome::TooLate)));
    }

    #[tokio::test]
    async fn the_runner_is_woken_by_time_and_by_a_nudge() {
        let mut test = lane(10);
        let first = test.busy().await;
        test.go.send(Some(Instant::now())).await.unwrap();
        first.await.unwrap().unwrap();
        assert_eq!(test.batches.recv().await, Some(vec![]), "its time has come");
        test.go.send(None).await.unwrap();
        test.lane.nudge();
        assert_eq!(test.batches.recv().await, Some(vec![]), "it was nudged");
    }

    #[tokio::test]
    async fn the_lane_ends_with_its_last_handle_and_decides_what_was_sent_before() {
        let mut test = lane(10);
        let first = test.busy().await;
        let last = test.request("last").await;
        let Test { lane, mut batches, go } = test;
        drop(lane);
        go.send(Some(Instant::now() + Duration::from_secs(3_600))).await.unwrap();
        first.await.unwrap().unwrap();
        assert_eq!(batches.recv().await, Some(vec!["last"]));
        go.send(Some(Instant::now() + Duration::from_secs(3_600))).await.unwrap();
        last.await.unwrap().unwrap();
        assert_eq!(batches.recv().await, None, "the runner is gone");
    }

    #[tokio::test]
    async fn a_panic_leaves_nobody_hanging() {
        let mut test = lane(10);
        let first = test.busy().await;
        let (a, b) = (test.request("panic").await, test.request("b").await);
        test.go.send(None).await.unwrap();
        first.await.unwrap().unwrap();
        assert_eq!(a.await.unwrap(), Err(Refused::Closed));
        assert_eq!(b.await.unwrap(), Err(Refused::Closed));
        assert_eq!(test.lane.control("c").await, Err(Closed));
        assert_eq!(test.lane.request("c").await, Err(Refused::Closed));
        assert!(test.lane.is_closed());
    }
}
