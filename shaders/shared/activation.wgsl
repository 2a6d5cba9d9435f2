// Activations. Twin: src/nn/math.rs, same formulas.

const ACTIVATION_NONE: u32 = 0u;
const ACTIVATION_GELU: u32 = 1u;
const ACTIVATION_GELU_TANH: u32 = 2u;
const ACTIVATION_RELU: u32 = 3u;

// Abramowitz and Stegun 7.1.26: absolute error below 1.5e-7.
fn erf(x: vec4<f32>) -> vec4<f32> {
    let a = abs(x);
    let t = 1.0 / (1.0 + 0.3275911 * a);
    let p = t * (0.254829592 + t * (-0.284496736 + t * (1.421413741 + t * (-1.453152027 + t * 1.061405429))));
    return sign(x) * (1.0 - p * exp(-a * a));
}

// tanh through exp, because the built-in one is far off near 0 on some drivers; saturated where f32 is 1 anyway.
fn tanh_stable(x: vec4<f32>) -> vec4<f32> {
    let e = exp(-2.0 * min(abs(x), vec4<f32>(10.0)));
    return sign(x) * (1.0 - e) / (1.0 + e);
}

fn activate(x: vec4<f32>, kind: u32) -> vec4<f32> {
    switch kind {
        case ACTIVATION_GELU: {
            return 0.5 * x * (1.0 + erf(x * 0.70710678));
        }
        case ACTIVATION_GELU_TANH: {
            return 0.5 * x * (1.0 + tanh_stable(0.79788456 * (x + 0.044715 * x * x * x)));
        }
        case ACTIVATION_RELU: {
            return max(x, vec4<f32>(0.0));
        }
        default: {
            return x;
        }
    }
}
