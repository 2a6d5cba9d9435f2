//! What a device can do at most: multiply-adds in registers, and a copy. `bench` gives every other kernel's rate as a
//! share of these. Shaders: `shaders/bench/arithmetic.wgsl`, `shaders/bench/copy.wgsl`.

use bytemuck::{Pod, Zeroable};
use rayon::prelude::*;

use super::cpu::vectorised;
use super::kernel::{Access, Args, Data, Kernel, Noise, Parity, Sample, Wgsl};

#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
struct ArithmeticParams {
    invocations: u32,
    rounds: u32,
}

#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
struct CopyParams {
    elements: u32,
}

/// Floats that one invocation works on at a time: eight chains of four.
const CHAINS: usize = 32;

/// Bindings: `terms [2]` (factor and summand), `sums [invocations]`.
pub static ARITHMETIC: Kernel = Kernel {
    name: "bench/arithmetic",
    wgsl: Wgsl::core(concat!(
        include_str!("../../shaders/shared/grid.wgsl"),
        include_str!("../../shaders/bench/arithmetic.wgsl")
    )),
    constants: &[],
    params: size_of::<ArithmeticParams>(),
    bindings: &[Access::Read, Access::Write],
    cpu: arithmetic,
    // The factor is 1 and the summand whole: every sum is exact, fused or not.
    parity: Parity::Exact,
    samples: arithmetic_samples,
};

/// Bindings: `source [elements][4]`, `copied [elements][4]`.
pub static COPY: Kernel = Kernel {
    name: "bench/copy",
    wgsl: Wgsl::core(concat!(
        include_str!("../../shaders/shared/grid.wgsl"),
        include_str!("../../shaders/bench/copy.wgsl")
    )),
    constants: &[],
    params: size_of::<CopyParams>(),
    bindings: &[Access::Read, Access::Write],
    cpu: copy,
    parity: Parity::Exact,
    samples: copy_samples,
};

fn arithmetic(args: &mut Args<'_>) {
    let params: ArithmeticParams = args.params();
    let (terms, sums) = (args.read::<f32>(0), args.write::<f32>(1));
    let (factor, summand) = (terms[0], terms[1]);
    // Four invocations side by side keep the CPU's vector units as busy as eight chains do.
    sums[..params.invocations as usize].par_chunks_mut(4).for_each(|sums| {
        vectorised(
            #[inline(always)]
            || {
                let mut chains = [0.0_f32; 4 * CHAINS];
                for (index, chain) in chains.iter_mut().enumerate() {
                    *chain = ((index % CHAINS) / 4) as f32;
                }
                for _ in 0..params.rounds {
                    for chain in &mut chains {
                        *chain = chain.mul_add(factor, summand);
                    }
                }
                for (sum, chains) in sums.iter_mut().zip(chains.chunks_exact(CHAINS)) {
                    *sum = chains.iter().sum();
                }
            },
        );
    });
}

fn copy(args: &mut Args<'_>) {
    let params: CopyParams = args.params();
    let (source, copied) = (args.read::<u32>(0), args.write::<u32>(1));
    let words = 4 * params.elements as usize;
    const BLOCK: usize = 1 << 16;
    copied[..words].par_chunks_mut(BLOCK).zip(source[..words].par_chunks(BLOCK)).for_each(|(to, from)| {
        to.copy_from_slice(from);
    });
}

fn arithmetic_samples() -> Vec<Sample> {
    let sample = |about, invocations: u32, rounds: u32| Sample {
        about,
        constants: vec![],
        params: bytemuck::bytes_of(&ArithmeticParams { invocations, rounds }).to_vec(),
        bindings: vec![Data::F32(vec![1.0, 2.0]), Data::F32(vec![f32::NAN; invocations as usize])],
        workgroups: u64::from(invocations.div_ceil(64)),
        operations: 2 * CHAINS as u64 * u64::from(rounds) * u64::from(invocations),
        bytes: 4 * u64::from(invocations),
    };
    vec![
        sample("one invocation", 1, 1),
        sample("beyond a workgroup", 67, 9),
        sample("the ceiling of arithmetic", 16_384, 2048),
    ]
}

fn copy_samples() -> Vec<Sample> {
    let sample = |about, elements: u32| {
        let mut noise = Noise::new(u64::from(elements));
        let words = 4 * elements as usize;
        Sample {
            about,
            constants: vec![],
            params: bytemuck::bytes_of(&CopyParams { elements }).to_vec(),
            bindings: vec![Data::U32((0..words).map(|_| noise.bits()).collect()), Data::U32(vec![0; words])],
            workgroups: u64::from(elements.div_ceil(64)),
            operations: 0,
            bytes: 32 * u64::from(elements),
        }
    };
    vec![sample("four words", 1), sample("beyond a workgroup", 67), sample("the ceiling of memory", 1 << 20)]
}
