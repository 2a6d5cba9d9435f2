//! `tauscore emission`: what a block emits by what has been issued, the schedule from there, and a subnet's block, split.

use std::io::Write;

use serde_json::{Value, json};

use super::table::table;
use super::{Console, Outcome, Status, write_json, write_text};
use crate::stages::emission::{
    BLOCKS_A_DAY, DELEGATE_TAKE, OWNER_CUT, Split, block_emission, halving_threshold, halvings, root_proportion,
    schedule, take,
};
use crate::stages::yuma::Hyperparameters;

/// Options of `tauscore emission`.
#[derive(Debug, clap::Args)]
pub(super) struct EmissionArgs {
    /// What has been issued so far, in rao
    #[arg(long, value_name = "RAO", allow_negative_numbers = true)]
    issuance: u64,
    /// What the subnet has issued of its alpha, in rao [default: as much as --issuance]
    #[arg(long, value_name = "RAO", allow_negative_numbers = true)]
    alpha_issuance: Option<u64>,
    /// The subnet owner's cut, in 65535ths; 0 where it is off
    #[arg(long, value_name = "CUT", default_value_t = OWNER_CUT)]
    owner_cut: u16,
    /// TAO staked on the root network, in rao; without any, no alpha goes to root stakers
    #[arg(long, value_name = "RAO", default_value_t = 0, allow_negative_numbers = true)]
    root_tao: u64,
    /// What a rao of that counts in alpha, in 1 / (2^64 - 1)
    #[arg(long, value_name = "WEIGHT", default_value_t = Hyperparameters::default().tao_weight)]
    tao_weight: u64,
    /// What a validator keeps of its dividends before its stakers get the rest, in 65535ths
    #[arg(long, value_name = "TAKE", default_value_t = DELEGATE_TAKE)]
    take: u16,
}

pub(super) fn run(args: &EmissionArgs, console: &Console, out: &mut dyn Write) -> Outcome {
    let alpha_issuance = args.alpha_issuance.unwrap_or(args.issuance);
    let alpha = block_emission(alpha_issuance);
    let proportion = root_proportion(args.root_tao, args.tao_weight, alpha_issuance);
    let split = Split::new(alpha, args.owner_cut, proportion);
    if console.json {
        write_json(out, &as_json(args, alpha_issuance, alpha, &split))?;
    } else {
        write_text(out, &as_text(args, alpha_issuance, alpha, &split))?;
    }
    Ok(Status::Good)
}

/// Blocks between epochs.
fn tempo() -> u64 {
    Hyperparameters::default().tempo.into()
}

fn as_json(args: &EmissionArgs, alpha_issuance: u64, alpha: u64, split: &Split) -> Value {
    let rao = |amount: u64| Value::from(amount.to_string());
    let mut until = 0;
    let periods: Vec<Value> = schedule(args.issuance)
        .map(|period| {
            until += period.blocks;
            json!({
                "halvings": period.halvings,
                "threshold": rao(halving_threshold(period.halvings)),
                "issuance": rao(period.issuance),
                "emission": rao(period.emission),
                "blocks": period.blocks,
                "until": until,
            })
        })
        .collect();
    let next = schedule(args.issuance)
        .next()
        .map(|period| json!({"issuance": rao(halving_threshold(period.halvings + 1)), "blocks": period.blocks}));
    let epoch = |a_block: u64| {
        let dividend = a_block * tempo();
        let kept = take(dividend, args.take);
        json!({"dividend": rao(dividend), "take": rao(kept), "stakers": rao(dividend - kept)})
    };
    json!({
        "issuance": rao(args.issuance),
        "emission": rao(block_emission(args.issuance)),
        "halvings": halvings(args.issuance),
        "next_halving": next,
        "schedule": periods,
        "subnet": {
            "alpha_issuance": rao(alpha_issuance),
            "alpha": rao(alpha),
            "owner": rao(split.owner),
            "server": rao(split.server),
            "validator": rao(split.validator),
            "root": rao(split.root),
            "tempo": tempo(),
            "pot": rao(split.pot() * tempo()),
            "dividends": {"validator": epoch(split.validator), "root": epoch(split.root)},
        },
    })
}

fn as_text(args: &EmissionArgs, alpha_issuance: u64, alpha: u64, split: &Split) -> String {
    let emission = block_emission(args.issuance);
    let mut text = format!(
        "{} rao issued: {emission} rao a block, {} a day, after {} halvings\n",
        args.issuance,
        whole(emission * BLOCKS_A_DAY),
        halvings(args.issuance)
    );
    match schedule(args.issuance).next() {
        Some(period) => text.push_str(&format!(
            "the next halving comes at {} rao, in {} blocks ({} days)\n\n",
            halving_threshold(period.halvings + 1),
            period.blocks,
            days(period.blocks)
        )),
        None => text.push_str("nothing more is emitted\n\n"),
    }
    let mut until = 0;
    let periods: Vec<[String; 6]> = schedule(args.issuance)
        .map(|period| {
            until += period.blocks;
            [
                period.halvings.to_string(),
                period.issuance.to_string(),
                period.emission.to_string(),
                whole(period.emission * BLOCKS_A_DAY),
                period.blocks.to_string(),
                until.to_string(),
            ]
        })
        .collect();
    if !periods.is_empty() {
        let head = ["halvings ", "issuance (rao) ", "rao a block ", "TAO a day ", "blocks ", "ends in (blocks) "];
        text.push_str(&table(head, &periods));
        text.push('\n');
    }

    text.push_str(&format!("a subnet's block at {alpha_issuance} rao of alpha issued: {alpha} rao of alpha\n"));
    let part = |name: &str, a_block: u64| {
        [name.to_owned(), a_block.to_string(), (a_block * tempo()).to_string(), whole(a_block * BLOCKS_A_DAY)]
    };
    // Takes are of what an epoch pays, not of a block.
    let of_epoch = |name: &str, amount: u64| {
        let epochs = BLOCKS_A_DAY / tempo();
        [format!("  {name}"), String::new(), amount.to_string(), whole(amount * epochs)]
    };
    let mut rows = vec![part("owner", split.owner), part("miners", split.server)];
    for (name, a_block) in [("validators", split.validator), ("root", split.root)] {
        let dividend = a_block * tempo();
        let kept = take(dividend, args.take);
        rows.extend([part(name, a_block), of_epoch("take", kept), of_epoch("stakers", dividend - kept)]);
    }
    text + &table(["part", "rao a block ", "rao an epoch ", "alpha a day "], &rows)
}

/// Rao in TAO or alpha.
fn whole(rao: u64) -> String {
    format!("{:.4}", rao as f64 / 1e9)
}

fn days(blocks: u64) -> String {
    format!("{:.1}", blocks as f64 / BLOCKS_A_DAY as f64)
}
