//! The arithmetic that the epoch's shaders share, one operation at a time, so that it is tested by itself. Shader:
//! `shaders/yuma/arithmetic.wgsl`.

use bytemuck::{Pod, Zeroable};
use rayon::prelude::*;

use super::bought;
use super::layout::Params;
use crate::device::{Access, Args, Data, Kernel, Noise, Parity, Sample};
use crate::fixed::I32F32;
use crate::stages::yuma::liquid::LiquidAlpha;

/// One operation and what it works on.
#[derive(Clone, Copy, Debug, Default, Pod, Zeroable)]
#[repr(C)]
struct Case {
    a: I32F32,
    b: I32F32,
    c: I32F32,
    slope: I32F32,
    low: u32,
    high: u32,
    operation: u32,
    spare: u32,
}

/// Bindings: cases, results.
pub static KERNEL: Kernel = Kernel {
    name: "yuma/arithmetic",
    wgsl: wgsl!("shared/yuma_layout", "shared/yuma_rate", "yuma/arithmetic"),
    constants: &[],
    params: size_of::<Params>(),
    bindings: &[Access::Read, Access::Write],
    cpu: arithmetic,
    parity: Parity::Exact,
    samples,
};

fn arithmetic(args: &mut Args<'_>) {
    let params: Params = args.params();
    let (cases, results) = (&args.read::<Case>(0)[..params.count as usize], args.write::<I32F32>(1));
    cases.par_iter().zip(results).for_each(|(case, result)| {
        let Case { a, b, c, .. } = *case;
        *result = match case.operation {
            0 | 3 => a.saturating_mul(b),
            1 | 4 => a.safe_div(b),
            2 => a.exp_safe(),
            5 => I32F32::from_bits(a.of_rao(b.to_bits() as u64) as i64),
            6 => I32F32::from_proportion(a.to_bits() as u16),
            7 => I32F32::from_bits(a.to_proportion().into()),
            8 => a.safe_div(b),
            9 => bought(a, b, c),
            _ => {
                let alpha = LiquidAlpha {
                    low: I32F32::from_proportion(case.low as u16),
                    high: I32F32::from_proportion(case.high as u16),
                    slope: case.slope,
                };
                alpha.rate(a, b, c)
            }
        };
    });
}

/// Bits at which carries, signs and digits of quotients turn.
const EDGES: [u64; 30] = [
    0,
    1,
    2,
    3,
    0xfffe,
    0xffff,
    0x1_0000,
    0x1_0001,
    0x7fff_ffff,
    0x8000_0000,
    0x8000_0001,
    0xffff_0000,
    0xffff_fffe,
    0xffff_ffff,
    1 << 32,
    (1 << 32) + 1,
    (1 << 32) - 65_536,
    0x1_8000_0000,
    0x1_ffff_ffff,
    20 << 32,
    (20 << 32) + 1,
    0xffff_ffff_0000,
    0x7fff_0000_ffff_0001,
    0x7fff_ffff_ffff_fffe,
    0x7fff_ffff_ffff_ffff,
    1 << 63,
    (1 << 63) + 1,
    0xffff_ffff_0000_0000,
    0xffff_ffff_ffff_fffe,
    0xffff_ffff_ffff_ffff,
];

fn samples() -> Vec<Sample> {
    let bits = |bits: u64| I32F32::from_bits(bits as i64);
    let mut edges = Vec::new();
    for a in EDGES {
        edges.extend(EDGES.map(|b| Case { a: bits(a), b: bits(b), ..Case::default() }));
    }
    let mut noise = Noise::new(13);
    let mut wide = move || {
        // Every length of number is as likely.
        let length = noise.below(65);
        let number = u64::from(noise.bits()) << 32 | u64::from(noise.bits());
        if length == 0 { 0 } else { number >> (64 - length) }
    };
    let random: Vec<Case> = (0..20_000).map(|_| Case { a: bits(wide()), b: bits(wide()), ..Case::default() }).collect();

    let sample = |about, cases: Vec<Case>| Sample {
        about,
        constants: vec![],
        params: bytemuck::bytes_of(&Params { count: cases.len() as u32 }).to_vec(),
        workgroups: cases.len().div_ceil(64) as u64,
        operations: 100 * cases.len() as u64,
        bytes: 64 * cases.len() as u64,
        bindings: vec![Data::U32(bytemuck::cast_slice(&cases).to_vec()), Data::U32(vec![0; 2 * cases.len()])],
    };
    // Operands brought into the range that each operation is made for, the operations in turn or all on each pair.
    let all = |cases: &[Case]| -> Vec<Case> {
        cases.iter().flat_map(|case| (0..11).map(|operation| restrained(*case, operation))).collect()
    };
    let one = vec![Case { a: I32F32::ONE, b: I32F32::ONE, ..Case::default() }];
    vec![
        sample("one product", one),
        sample("edges against edges", all(&edges)),
        sample("every length of number", all(&random)),
        sample("products and quotients", random.iter().map(|case| restrained(*case, 1)).collect()),
    ]
}

/// The case with operands that the operation is made for.
fn restrained(case: Case, operation: u32) -> Case {
    let share = |value: I32F32| {
        let bits = value.to_bits();
        if bits & 7 == 7 { I32F32::ONE } else { I32F32::from_bits(bits & 0xffff_ffff) }
    };
    let mut case = Case { operation, ..case };
    let (a, b) = (case.a, case.b);
    match operation {
        3 => (case.a, case.b) = (share(a), share(b)),
        4 => {
            // A part of a whole without signs.
            let [a, b] = [a, b].map(|value| value.to_bits() & i64::MAX);
            (case.a, case.b) = (I32F32::from_bits(a.min(b)), I32F32::from_bits(a.max(b).max(1)));
        }
        5 => case.a = I32F32::from_bits(a.to_bits() & i64::MAX),
        7 => case.a = I32F32::from_bits(a.to_bits() & i64::MAX),
        8 => {
            let [a, b] = [a, b].map(|value| value.to_bits() & 0x7fff_ffff);
            (case.a, case.b) = (I32F32::from_bits(a.min(b)), I32F32::from_bits(a.max(b).max(1)));
        }
        9 => (case.a, case.b, case.c) = (share(a), share(b), share(I32F32::from_bits(a.to_bits() ^ b.to_bits()))),
        10 => {
            let mixed = a.to_bits() ^ b.to_bits().rotate_left(17);
            (case.a, case.b, case.c) = (share(a), share(b), share(I32F32::from_bits(mixed)));
            (case.low, case.high) = (mixed as u32 & 0xffff, (mixed >> 16) as u32 & 0xffff);
            case.slope = I32F32::from_i16((mixed >> 32) as i16).saturating_div(I32F32::from_i16(-100));
        }
        _ => {}
    }
    case
}
