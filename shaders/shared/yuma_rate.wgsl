// The rate of liquid alpha for one entry. Twin: LiquidAlpha::rate in src/stages/yuma/liquid.rs.

fn rate(
    consensus: vec2<u32>,
    weight: vec2<u32>,
    bond: vec2<u32>,
    low: vec2<u32>,
    high: vec2<u32>,
    slope: vec2<u32>,
) -> vec2<u32> {
    var distance = subtract(bond, weight);
    if !signed_below(weight, bond) {
        distance = subtract(weight, consensus);
    }
    if is_negative(distance) {
        distance = ZERO;
    }
    distance = smaller(distance, ONE);
    let power = exponential(multiply(slope, subtract(distance, HALF)));
    let sigmoid = divide_shares(ONE, add(ONE, power));
    let between = add(low, multiply(sigmoid, subtract(high, low)));
    if signed_below(high, between) {
        return high;
    }
    if signed_below(between, low) {
        // Where low is above high, high has the last word.
        return smaller(low, high);
    }
    return between;
}
