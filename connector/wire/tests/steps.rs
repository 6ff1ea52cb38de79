//! Judging in three steps: many tokens at a time, and a list that changes in between.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

mod world;

use std::sync::Mutex;

use proptest::prelude::*;
use sluice_connector_wire::{Presented, Refusal, StreamClaims, StreamKind, sign_stream_token};
use sluice_node_identity::UnixTime;
use world::{GATEWAY, NOW, World};

const AT: UnixTime = UnixTime(NOW);

#[test]
fn c4_a_token_shown_on_many_threads_at_once_opens_one_stream() {
    let mut world = World::new();
    let tokens: Vec<String> = (0..20)
        .map(|serial| {
            world.serial = serial;
            sign_stream_token(&world.claims(), &world.gateway).unwrap()
        })
        .collect();
    let (sid, cnf) = (world.sid.clone(), world.gateway_cnf.clone());
    let keeper = Mutex::new(world.keeper);
    let open_all = || {
        let presented = Presented { kind: StreamKind::Direct, caller: GATEWAY, sid: &sid, cnf: &cnf };
        let examiner = keeper.lock().unwrap().examiner().unwrap();
        let opened = tokens.iter().filter(|token| {
            let examined = examiner.examine(token, &presented, AT).unwrap();
            let spent = keeper.lock().unwrap().spend(examined, AT);
            spent.and_then(|spent| spent.grant(AT)).is_ok()
        });
        opened.count()
    };
    let opened: usize = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..4).map(|_| scope.spawn(open_all)).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).sum()
    });
    assert_eq!(opened, tokens.len());
}

#[test]
fn c4_a_list_that_changes_between_the_steps_decides() {
    let mut world = World::new();
    let (sid, cnf) = (world.sid.clone(), world.gateway_cnf.clone());
    let presented = Presented { kind: StreamKind::Direct, caller: GATEWAY, sid: &sid, cnf: &cnf };
    let examine = |world: &mut World, serial: u8| {
        world.serial = serial;
        let token = sign_stream_token(&world.claims(), &world.gateway).unwrap();
        world.keeper.examiner().unwrap().examine(&token, &presented, AT).unwrap()
    };
    let (first, second) = (examine(&mut world, 1), examine(&mut world, 2));
    let mut list = world.list.clone();
    (list.version, list.rules) = (2, Vec::new());
    world.offer(&list).unwrap();
    let spent = world.keeper.spend(first, AT).expect("its caller is still known");
    assert_eq!(spent.grant(AT).unwrap_err(), Refusal::NotAllowed);
    list.version = 3;
    list.callers.retain(|caller| caller.id != GATEWAY);
    world.offer(&list).unwrap();
    assert_eq!(world.keeper.spend(second, AT).unwrap_err(), Refusal::NotTrusted);
}

proptest! {
    /// Model: the three steps taken at once. However openings interleave, each token opens what it would have alone.
    #[test]
    fn c4_interleaved_steps_decide_as_one(order in proptest::collection::vec(0_usize..6, 1..40)) {
        let (mut world, mut model) = (World::new(), World::new());
        model.gateway_cnf.clone_from(&world.gateway_cnf);
        let (sid, cnf) = (world.sid.clone(), world.gateway_cnf.clone());
        let presented = Presented { kind: StreamKind::Direct, caller: GATEWAY, sid: &sid, cnf: &cnf };
        let claims = |serial: u8| StreamClaims { jti: World::text([serial; 16]), ..world.claims() };
        let ours: Vec<_> = (0..6).map(|n| sign_stream_token(&claims(n), &world.gateway).unwrap()).collect();
        let theirs: Vec<_> = (0..6).map(|n| sign_stream_token(&claims(n), &model.gateway).unwrap()).collect();
        let examiner = world.keeper.examiner().unwrap();
        let examined: Vec<_> = order.iter().map(|n| examiner.examine(&ours[*n], &presented, AT).unwrap()).collect();
        for (n, examined) in order.iter().zip(examined) {
            let stepped = world.keeper.spend(examined, AT).and_then(|spent| spent.grant(AT)).map(drop);
            prop_assert_eq!(stepped, model.admit_direct(&theirs[*n]).map(drop));
        }
    }
}
