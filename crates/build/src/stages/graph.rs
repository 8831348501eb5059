//! What needs what, without recursion: a chain of stages may be as long as the text.

use super::{Origin, Stage};

/// The stages that one needs.
fn needs(stage: &Stage) -> Vec<usize> {
    let origins = std::iter::once(&stage.base).chain(stage.needs.iter().map(|need| &need.origin));
    let stages = origins.filter_map(|origin| match origin {
        Origin::Stage(at) => Some(*at),
        _ => None,
    });
    stages.collect()
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Mark {
    New,
    Open,
    Done,
}

/// Walks from a stage; tells the stage at which a circle closes, or adds to the order.
fn walk(list: &[Stage], from: usize, marks: &mut [Mark], order: &mut Vec<usize>) -> Option<usize> {
    let mut circle = None;
    let mut stack = vec![(from, needs(&list[from]))];
    if marks[from] != Mark::New {
        return None;
    }
    marks[from] = Mark::Open;
    while let Some((at, left)) = stack.last_mut() {
        let at = *at;
        // In the order of the text, so that the same text is built in the same order.
        let Some(next) = (if left.is_empty() { None } else { Some(left.remove(0)) }) else {
            marks[at] = Mark::Done;
            order.push(at);
            stack.pop();
            continue;
        };
        match marks[next] {
            Mark::New => {
                marks[next] = Mark::Open;
                stack.push((next, needs(&list[next])));
            }
            Mark::Open => circle = circle.or(Some(next)),
            Mark::Done => {}
        }
    }
    circle
}

/// A stage that needs itself, by whatever way.
pub fn cycle(list: &[Stage]) -> Option<usize> {
    let mut marks = vec![Mark::New; list.len()];
    (0..list.len()).find_map(|stage| walk(list, stage, &mut marks, &mut Vec::new()))
}

/// What has to be built for a stage, each behind what it needs.
pub fn order(list: &[Stage], target: usize) -> Vec<usize> {
    let mut order = Vec::new();
    walk(list, target, &mut vec![Mark::New; list.len()], &mut order);
    order
}
