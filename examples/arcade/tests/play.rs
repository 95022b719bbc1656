//! The three services as processes, played with over a WebSocket as a browser does.

#![expect(clippy::unwrap_used, reason = "in a test, what cannot be unwrapped is the failure")]

mod stand;

use serde_json::{Value, json};
use stand::log::Log;
use stand::{Player, Scratch, Stand, best_of, request};

/// Points as the table shows them, once they are there.
fn await_best(stand: &Stand, name: &str) -> u64 {
    stand::until("the score is in the table", || best_of(stand.web.port, name))
}

#[tokio::test]
async fn a_game_played_through_the_page_ends_in_the_table() {
    let stand = Stand::start();
    let mut player = Player::enter(stand.web.port).await;
    player.say(&json!({"t": "join", "name": " Ada\n", "colour": 3, "speed": 9})).await;
    player.eat(2).await;
    let score = player.crash().await;
    assert!(score >= 2, "{score}");
    assert_eq!(await_best(&stand, "Ada"), score);
    // The seat is still there: a new game in the same room.
    player.say(&json!({"t": "again"})).await;
    player.until(|said| said["t"] == "state" && said["players"][0]["cells"][0].is_array()).await;
}

#[tokio::test]
async fn games_reach_the_table_through_the_event_log() {
    let log = Log::start();
    let mut stand = Stand::start_with(log.at.clone());
    let mut player = Player::enter(stand.web.port).await;
    player.say(&json!({"t": "join", "name": "Ada", "colour": 3, "speed": 9})).await;
    player.eat(2).await;
    let first = player.crash().await;
    assert_eq!(await_best(&stand, "Ada"), first);
    // Games that are played while nobody takes them wait in the log.
    stand.scores.kill();
    player.say(&json!({"t": "again"})).await;
    player.eat(first + 1).await;
    let second = player.crash().await;
    stand.restart_scores();
    stand::until("the better score is in the table", || {
        best_of(stand.web.port, "Ada").filter(|best| *best == second)
    });
    // Everybody may read what happened.
    let games = log.first("games", 2);
    assert_eq!(games.iter().map(|game| &game["score"]).collect::<Vec<_>>(), [first, second]);
    let meals = log.first("food", usize::try_from(first).unwrap());
    assert!(
        meals.iter().all(|meal| meal["replica"] == "arena.1" && meal["x"].is_u64()),
        "{meals:?}"
    );
}

#[tokio::test]
async fn two_players_meet_in_one_room_and_a_watcher_sees_both() {
    let stand = Stand::start();
    let mut ada = Player::enter(stand.web.port).await;
    ada.say(&json!({"t": "join", "name": "Ada", "colour": 3, "speed": 1})).await;
    ada.until(|said| said["t"] == "welcome").await;
    let mut grace = Player::enter(stand.web.port).await;
    grace.say(&json!({"t": "join", "name": "Grace", "colour": 4, "speed": 1})).await;
    let both =
        |said: &Value| said["t"] == "state" && said["players"].as_array().unwrap().len() == 2;
    ada.until(both).await;
    let mut watcher = Player::enter(stand.web.port).await;
    watcher.say(&json!({"t": "watch", "speed": 1})).await;
    let welcome = watcher.until(|said| said["t"] == "welcome").await;
    assert_eq!((&welcome["you"], &welcome["speed"]), (&Value::Null, &json!(1)));
    watcher.until(both).await;
    // Who leaves is gone for everyone.
    drop(grace);
    ada.until(|said| said["t"] == "state" && said["players"].as_array().unwrap().len() == 1).await;
}

#[tokio::test]
async fn a_stopping_arena_moves_its_players_and_keeps_their_points() {
    let mut stand = Stand::start();
    let mut player = Player::enter(stand.web.port).await;
    player.say(&json!({"t": "join", "name": "Ada", "colour": 3, "speed": 9})).await;
    let score = player.eat(1).await;
    stand.arena.terminate();
    player.until(|said| said["t"] == "move").await;
    assert_eq!(player.closed().await, 1012);
    assert!(stand.arena.ended().success());
    assert!(await_best(&stand, "Ada") >= score);
}

#[tokio::test]
async fn points_wait_for_a_scores_service_that_is_away() {
    let mut stand = Stand::start();
    let mut player = Player::enter(stand.web.port).await;
    player.say(&json!({"t": "join", "name": "Ada", "colour": 3, "speed": 9})).await;
    player.eat(1).await;
    stand.scores.kill();
    stand.arena.terminate();
    assert_eq!(player.closed().await, 1012);
    stand.restart_scores();
    assert!(stand.arena.ended().success(), "it waited until its results were taken");
    assert!(await_best(&stand, "Ada") >= 1);
}

#[test]
fn what_was_acknowledged_survives_kill_9() {
    let mut stand = Stand::start();
    let port = stand.scores.port;
    for round in 1..=5 {
        let result = json!([{"name": "Ada", "colour": 1, "score": round, "speed": 3}]);
        let (status, _) = request(port, "POST", "/results", &result.to_string());
        assert_eq!(status, 200);
        stand.scores.kill();
        stand.restart_scores();
        assert_eq!(best_of(stand.web.port, "Ada"), Some(round));
    }
}

#[test]
fn a_second_scores_waits_for_the_first_to_end() {
    let folder = Scratch::new();
    let first = stand::scores(&folder, 0, "");
    let mut second = stand::scores_without_waiting(&folder);
    assert!(second.line().contains("waiting"));
    drop(first);
    second.wait_until_it_listens();
}

#[test]
fn bad_results_are_refused_and_change_nothing() {
    let stand = Stand::start();
    let port = stand.scores.port;
    let long = format!("[{}]", " ".repeat(70_000));
    let row = r#"{"name":"A","colour":1,"score":1,"speed":1}"#;
    let many = format!("[{}]", vec![row; 201].join(","));
    for (body, wanted) in [
        ("{}", 400),
        (r#"[{"name":"A","colour":1,"score":-1,"speed":1}]"#, 400),
        (&long, 413),
        (&many, 413),
        (r#"[{"name":"A","colour":1,"score":1,"speed":10}]"#, 400),
    ] {
        assert_eq!(request(port, "POST", "/results", body).0, wanted);
    }
    assert_eq!(request(port, "GET", "/scores", ""), (200, json!({"scores": []}).to_string()));
}

#[tokio::test]
async fn what_breaks_the_protocol_ends_that_session_alone() {
    let stand = Stand::start();
    let mut other = Player::enter(stand.web.port).await;
    other.say(&json!({"t": "watch", "speed": 1})).await;
    other.until(|said| said["t"] == "welcome").await;
    let long = format!(r#"{{"t":"again","x":"{}"}}"#, "x".repeat(600));
    for (text, code) in
        [("{}", 1008), ("not json", 1008), (r#"{"t":"turn","d":9}"#, 1008), (&long, 1009)]
    {
        let mut player = Player::enter(stand.web.port).await;
        player.say_text(text).await;
        assert_eq!(player.closed().await, code, "{text}");
    }
    let mut flooding = Player::enter(stand.web.port).await;
    for _ in 0..1000 {
        flooding.try_say(r#"{"t":"again"}"#).await;
    }
    assert_eq!(flooding.closed().await, 1008);
    other.until(|said| said["t"] == "tick").await;
}

#[tokio::test]
async fn the_page_is_served_whole_and_strangers_may_not_enter() {
    let mut stand = Stand::start();
    let (status, page) = request(stand.web.port, "GET", "/", "");
    assert_eq!(status, 200);
    let names = page.split(['"', '\'']).filter(|word| word.starts_with('/') && word.len() > 1);
    let names: Vec<&str> = names.collect();
    assert!(names.len() >= 3, "{names:?}");
    for name in names {
        assert_eq!(request(stand.web.port, "GET", name, "").0, 200, "{name}");
    }
    assert_eq!(request(stand.web.port, "GET", "/nothing", "").0, 404);
    assert_eq!(request(stand.web.port, "POST", "/", "x").0, 405);
    assert_eq!(request(stand.web.port, "GET", "/arena", "").0, 426);
    assert_eq!(Player::refused(stand.web.port, "http://example.com").await, 403);
    stand.arena.kill();
    assert_eq!(Player::refused(stand.web.port, "").await, 502);
    stand.scores.kill();
    assert_eq!(request(stand.web.port, "GET", "/api/scores", "").0, 502);
    assert_eq!(request(stand.web.port, "GET", "/healthz", "").0, 200, "alive by itself");
}

#[tokio::test]
async fn a_stopping_page_lets_go_of_its_players_in_time() {
    let mut stand = Stand::start();
    let mut player = Player::enter(stand.web.port).await;
    player.say(&json!({"t": "watch", "speed": 1})).await;
    player.until(|said| said["t"] == "welcome").await;
    stand.web.terminate();
    player.broken_off().await;
    assert!(stand.web.ended().success());
}

#[test]
fn the_check_tells_healthy_from_not() {
    let mut stand = Stand::start();
    assert!(stand::check(stand.scores.port));
    stand.scores.kill();
    assert!(!stand::check(stand.scores.port));
}
