// Twin: src/stages/yuma/device/arithmetic.rs. One operation of the shared arithmetic a case, so that it can be tested by itself.

struct Params {
    count: u32,
}

struct Case {
    a: vec2<u32>,
    b: vec2<u32>,
    c: vec2<u32>,
    slope: vec2<u32>,
    // In 65535ths.
    low: u32,
    high: u32,
    operation: u32,
    spare: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> cases: array<Case>;
@group(0) @binding(2) var<storage, read_write> results: array<vec2<u32>>;

@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let index = workgroup_index(group, groups) * 64u + lane;
    if index >= params.count {
        return;
    }
    let a = cases[index].a;
    let b = cases[index].b;
    var result = ZERO;
    switch cases[index].operation {
        case 0u: {
            result = multiply(a, b);
        }
        case 1u: {
            result = divide(a, b);
        }
        case 2u: {
            result = exponential(a);
        }
        case 3u: {
            result = multiply_shares(a, b);
        }
        case 4u: {
            result = divide_shares(a, b);
        }
        case 5u: {
            result = part_of(a, b);
        }
        case 6u: {
            result = from_proportion(a.x & 0xffffu);
        }
        case 7u: {
            result = vec2<u32>(to_proportion(a), 0u);
        }
        case 8u: {
            result = divide_integers(a.x, b.x);
        }
        case 9u: {
            result = weight_for_bonds(a, b, cases[index].c);
        }
        case 10u: {
            let low = from_proportion(cases[index].low);
            let high = from_proportion(cases[index].high);
            result = rate(a, b, cases[index].c, low, high, cases[index].slope);
        }
        default: {
        }
    }
    results[index] = result;
}
