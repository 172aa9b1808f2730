#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Applies one-line breakages to a copy of the sources, one at a time, rebuilds, and runs the law tests: each must make one fail.

  tests/mutations/run.py [--build DIR] [--only SUBSTRING] [--jobs N]

Prints a Markdown table (kept in ARCHITECTURE.md) and exits 1 if a breakage survives. Takes about a minute per breakage."""
import argparse
import dataclasses
import pathlib
import re
import shutil
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]
PROGRAMS = ["core_base_test", "core_device_test", "op_test", "core_model_test", "parallel_test", "optim_test", "data_test",
            "rl_test", "launch_test", "launch_mpi_test"]


@dataclasses.dataclass
class Mutation:
    what: str      # the broken rule, for the table
    file: str
    old: str       # must occur exactly once
    new: str
    programs: list  # test programs that should notice


CPU = "core/device/cpu/"
MUTATIONS = [
    Mutation("combine adds experts in descending order", CPU + "permute.cc",
             "for (int64_t j = 0; j < k; ++j) {\n      if (slots[j] >= 0) sum",
             "for (int64_t j = k - 1; j >= 0; --j) {\n      if (slots[j] >= 0) sum", ["op_test"]),
    Mutation("gradients are summed as floats", CPU + "gradient_sum.h",
             "const F32x16 scaled = x * Set(0x1p50f);",
             "const F32x16 scaled = ((x + Set(static_cast<float>(sum[0]) * 0x1p-50f)) - "
             "Set(static_cast<float>(sum[0]) * 0x1p-50f)) * Set(0x1p50f);", ["optim_test", "op_test"]),
    Mutation("rows of a token are summed before they travel home, in an exact run", "parallel/layout.cc",
             "config.exact ? ReturnedRows::kEachChoice : ReturnedRows::kSummed", "ReturnedRows::kSummed", ["optim_test"]),
    Mutation("ranks keep the larger of two floats instead of their sum", "parallel/thread_comm.cc",
             "float SumOf(float a, float b) { return a + b; }", "float SumOf(float a, float b) { return std::max(a, b); }",
             ["parallel_test"]),
    Mutation("a chain into float sums ends with each row, and is lost", CPU + "weight_grad.cc",
             "Chunks(ends, 0, 1)", "Chunks(offsets, 0, segments)", ["op_test"]),
    Mutation("a chain that goes on in the next piece of a chunk begins anew there", CPU + "weight_grad.cc",
             "piece.starts && piece.ends ? space_.c : tile.c", "piece.ends ? space_.c : tile.c", ["op_test"]),
    Mutation("a chain is interrupted within a group of pairs (needs a machine with AMX)", CPU + "weight_grad.cc",
             "tokens = free / kChainSteps<Operand<T>> * kChainSteps<Operand<T>> * kStepDepth<T>;",
             "tokens = free * kStepDepth<T>;", ["op_test"]),
    Mutation("weight gradients are rounded after the sum over rows, not before", "core/model/linear.cc",
             ".segment_offsets = pass.row_offsets,",
             ".segment_offsets = [&] { const Tensor t = pass.until_weight_grad.Allocate(DType::kI32, {2}); "
             "if (!pass.until_weight_grad.measuring()) { t.As<int32_t>()[0] = 0; "
             "t.As<int32_t>()[1] = static_cast<int32_t>(pass.num_tokens()); } return t; }(),", ["optim_test"]),
    Mutation("norm gains are rounded per micro-batch, not per row", CPU + "rms_norm.cc",
             "NormRowBackward<T>(arrays, row, gain_sums + r * n);", "NormRowBackward<T>(arrays, row, gain_sums);",
             ["optim_test", "op_test"]),
    Mutation("a reduction joins its lanes as the vector width suggests", CPU + "simd.h",
             "  const __m256 s8 = _mm256_add_ps(a.lo, a.hi);",
             "  const __m256 s8 = _mm256_hadd_ps(a.lo, a.hi);", ["op_test", "optim_test"]),
    Mutation("a multiply-add is not fused on one instruction set", CPU + "register.h",
             "return {_mm256_fmadd_ps(a.v, b.v, c.v)};", "return {_mm256_add_ps(_mm256_mul_ps(a.v, b.v), c.v)};",
             ["op_test", "optim_test"]),
    Mutation("the short way into fixed point is taken for any magnitude", CPU + "gradient_sum.h",
             "const bool small = !AnyBeyond(bits, 2.0f);", "const bool small = true;", ["op_test"]),
    Mutation("libm in the rotary table", "core/model/rope_table.cc",
             "static_cast<float>(ExactCos(angle) * amplitude)", "static_cast<float>(std::cos(angle) * amplitude)",
             ["no_libm"]),
    Mutation("1/N of the micro-batch instead of the whole batch", "parallel/executor.cc",
             "slots.stage().EndForward(forward_lane_.lane, slot.pass, step.weights,",
             "core::LossWeights own = step.weights; own.label_scale *= static_cast<float>(step.batch.rows) / "
             "static_cast<float>(slot.pass.rows); slots.stage().EndForward(forward_lane_.lane, slot.pass, own,",
             ["optim_test"]),
    Mutation("balance loss averaged over the micro-batch", "core/model/router.cc",
             "balance_weight / static_cast<float>(pass.batch_rows)", "balance_weight / static_cast<float>(pass.rows)",
             ["optim_test"]),
    Mutation("a softmax sum that depends on where the document was packed, and so the loss", CPU + "attention.cc",
             "PackBlock(first, std::min(kKeyBlock, keys() - first));",
             "PackBlock(first, std::min(kKeyBlock, keys() - first)); if (run_.first_key % 2) scratch_.total[0] += 0x1p-20f;",
             ["optim_test", "op_test"]),
    Mutation("a resumed run forgets the data position", "launch/run_checkpoints.cc",
             ".data_position = resume.meta.data_position", ".data_position = 0", ["launch_test"]),
    Mutation("a resumed run keeps metrics after its checkpoint", "launch/run_report.cc",
             "ReadMetrics(folder_.MetricsPath(), first_step_, ", "ReadMetrics(folder_.MetricsPath(), int64_t{1} << 40, ",
             ["launch_test"]),
    Mutation("a resumed run keeps samples after its checkpoint", "launch/run_report.cc",
             "ReadMetrics(folder_.SamplesPath(), first_step_, ", "ReadMetrics(folder_.SamplesPath(), int64_t{1} << 40, ",
             ["launch_test"]),
    Mutation("second moments are not saved", "optim/weights.cc", '{"v", param->shard, param->v},', "", ["launch_test", "optim_test"]),
    Mutation("a resumed rank has its own rows of the masters alone", "launch/run_checkpoints.cc",
             "optim::RestoredTensors(*parts.model)", "optim::OptimizerTensors(*parts.model)", ["launch_mpi_test"]),
    Mutation("the gradient of multi-token prediction is lost on its way to the main model", "core/model/loss_unit.cc",
             "d_joined.Slice(1, hidden_, hidden_), d_hidden,\n                       d_hidden);",
             "d_joined.Slice(1, hidden_, hidden_), {},\n                       lane.scratch.Allocate(dtype_, {t, hidden_}));",
             ["optim_test", "launch_test"]),
    Mutation("the norm's sum over slices is a float", CPU + "reduce.cc",
             "AddToNormLimbs(InRange(SumOfSquares(gradient.As<Sum>() + slice * length, length)), own);",
             "AddToNormLimbs(slice == begin ? SumOfSquares(gradient.As<Sum>() + slice * length, (end - begin) * length) : 0, own);",
             ["optim_test", "core_device_test"]),
    Mutation("decoding rotates by the wrong position late in a sequence", "core/model/decoder.cc",
             "positions_[b] = static_cast<int32_t>(lengths_[b]++);",
             "positions_[b] = static_cast<int32_t>(lengths_[b] + (lengths_[b] > 90)), ++lengths_[b];",
             ["optim_test"]),
    Mutation("a sample that moves to another slot loses its newest key", "core/model/decode_stage.cc",
             "cache.Slice(0, s, 1).Slice(1, 0, length).MergeFirst()",
             "cache.Slice(0, s, 1).Slice(1, 0, std::max<int64_t>(length - 1, 1)).MergeFirst()", ["rl_test"]),
    Mutation("a draw does not depend on the sample", "rl/generator.cc",
             "return (((draw << kSampleBits) + sample) << kPositionBits)",
             "return (((draw << kSampleBits) + 0 * sample) << kPositionBits)", ["rl_test"]),
    Mutation("a sample that ends leaves its slot to itself", "rl/slot_queue.cc",
             "if (last.slot == slot) continue;", "if (last.slot >= slot) continue;", ["rl_test"]),
    Mutation("a deviation of a sample is one of a population", "rl/advantage.cc",
             'return Deviation(squares, moments.count, kind == "sample" ? 1 : 0);',
             "return Deviation(squares, moments.count, 0);", ["rl_test"]),
    Mutation("responses of a batch weigh as if each were alone", "rl/rollout_packing.cc",
             "const auto responses = static_cast<double>(packed.episodes.size());",
             "const double responses = 1.0;", ["rl_test"]),
    Mutation("rows come in the same order in every epoch", "data/epoch_order.h",
             "+ static_cast<uint64_t>(draw / size);", "+ 0 * static_cast<uint64_t>(draw / size);", ["data_test"]),
    Mutation("a held-out problem is trained on", "data/tasks/task.cc",
             "return held_out == (split_ == Split::kHeldOut);", "return held_out || split_ == Split::kTrain;",
             ["data_test"]),
    Mutation("questions are learned, too", "data/sample_rows.cc",
             "if (samples_.learned[token + 1] == 0) continue;", "", ["data_test"]),
    Mutation("a sample sees the one before it in its row", "data/sample_rows.cc",
             "static_cast<int32_t>(token - begin)", "static_cast<int32_t>(at - slot * length_)", ["data_test"]),
    Mutation("the end of an answer is not learned", "data/chat_template.cc",
             "parts.Turn(message.role, message.content, message.role == Role::kAssistant ? kEos : \"\");",
             "parts.Turn(message.role, message.content), parts.Header(message.role == Role::kAssistant ? kEos : \"\");",
             ["data_test"]),
    Mutation("a countdown may use a number twice", "data/tasks/countdown.cc", "if (used != numbers) return false;",
             "if (used.size() < numbers.size()) return false;", ["data_test"]),
    Mutation("a label looks across a masked border", "data/packing.cc", "label = kNone;", "(void)label;", ["data_test"]),
    Mutation("a long document is cut at any newline", "data/text_cut.cc",
             "if (CutsBehindNewline(text, at) ||", "if (text[at - 1] == '\\n' ||", ["data_test"]),
    Mutation("the token cache forgets which tokenizer", "data/token_cache.cc",
             "  Add(tokenizer.Fingerprint(), hasher);\n", "", ["data_test"]),
    Mutation("of equal pairs the rightmost is merged first", "data/bpe_merger.cc",
             "if (ranks[i] < ranks[best]) best = i;", "if (ranks[i] <= ranks[best]) best = i;", ["data_test"]),
    Mutation("the name of a special token in a text becomes the token", "data/added_tokens.cc",
             "(token.special && parse == Parse::kText)", "false", ["data_test"]),
    Mutation("a word is remembered by its hash alone", "data/word_cache.h",
             "entry.num_bytes != word.size() || std::memcmp(entry.bytes.data(), word.data(), word.size()) != 0",
             "entry.num_bytes == 0", ["data_test"]),
    Mutation("a backward does not wait for that of the next stage", "parallel/schedule_order.cc",
             "if (stage + 1 < schedule.num_stages) visit({Verb::kBackwardInput, stage + 1, micro});", "",
             ["parallel_test"]),
    Mutation("ZB-H1 does not put its weight gradients off", "parallel/schedules/zb1p.cc", "if (micro >= rank)", "if (true)",
             ["parallel_test"]),
    Mutation("DualPipe overlaps the first pair where its lanes meet", "parallel/schedules/two_lanes.cc",
             "if (i == 0 && behind == 0)", "if (false)", ["parallel_test"]),
    Mutation("gradients of DualPipe's two copies of a stage are not added", "parallel/layout.cc",
             'dense_ = all().Split(stage_holder, "dense");', 'dense_ = all().Split(here.pipeline, "dense");', ["optim_test"]),
    Mutation("the norm counts the rows of both holders of a cut gradient", "core/model/param.h",
             "Tensor ShardGradient() const { return cut_gradient ? shard_sum : ShardOf(sum); }",
             "Tensor ShardGradient() const { return cut_gradient ? shard_sum : AsRows(sum).Slice(0, 0, shard.size()); }",
             ["optim_test"]),
    Mutation("1/N of the labels of a data rank", "optim/trainer.cc",
             "static_cast<float>(1.0 / static_cast<double>(batch.num_labels))",
             "static_cast<float>(layout_.mesh().shape().data / static_cast<double>(batch.num_labels))", ["optim_test"]),
    Mutation("the last stage's gradient of the embedding is lost", "parallel/layout.cc",
             "embedding_ ? embedding_.get() : dense_.get()}", "dense_.get()}", ["optim_test"]),
    Mutation("router biases follow the load of one rank", "optim/trainer.cc",
             "all.AllReduce(model_.stream(), all_sums_, parallel::Reduction::kSum)",
             "all.AllReduce(model_.stream(), totals_, parallel::Reduction::kSum)", ["optim_test"]),
    Mutation("the greatest differences of ranks are added", "optim/trainer.cc",
             "all.AllReduce(model_.stream(), maxima_, parallel::Reduction::kMax)",
             "all.AllReduce(model_.stream(), maxima_, parallel::Reduction::kSum)", ["optim_test"]),
    Mutation("the gradient of logits lacks its factor 1 / temperature", CPU + "cross_entropy.cc",
             "Set(weight / args_.temperature)", "Set(weight)", ["op_test"]),
    Mutation("a token moves the ratio of its sequence as if it were alone", CPU + "policy_loss.cc",
             "StoreWeight(s, slopes / count)", "StoreWeight(s, slopes)", ["op_test"]),
    Mutation("on-policy the present log-probabilities are not compared with the old ones", "core/model/loss_unit.cc",
             "  args.log_probs = log_probs;\n  args.sums", "  args.log_probs = args.old_log_probs;\n  args.sums",
             ["optim_test"]),
    Mutation("the gradient of the reverse divergence lacks its mean", CPU + "divergence.cc",
             "(log_s - log_t - divergence)", "(log_s - log_t)", ["op_test"]),
    Mutation("the teacher's logits keep their temperature", CPU + "divergence.cc",
             "teacher.Logits(args_.teacher_head, own_.temperature,", "teacher.Logits(args_.teacher_head, 1,",
             ["op_test"]),
    Mutation("the next rows of the batch take the place of those whose head gradients are due", CPU + "head_pass.h",
             "return row % slots;", "return row % wave;", ["op_test"]),
    Mutation("head gradients of the last rows are forgotten", CPU + "head_pass.h",
             "    RunJob({}, before);\n  }", "  }", ["op_test"]),
    Mutation("a student learns from the states of the batch before", "rl/grpo.cc",
             "if (parts_.teacher != nullptr) parts_.teacher->Compute(packed.batch);\n    optim::StepMetrics now = "
             "parts_.trainer.Step(packed.batch, number, ReplayIn(update));",
             "optim::StepMetrics now = parts_.trainer.Step(packed.batch, number, ReplayIn(update));\n    "
             "if (parts_.teacher != nullptr) "
             "parts_.teacher->Compute(packed.batch);", ["launch_test"]),
    Mutation("updated masters are not gathered", "optim/trainer.cc", "  sync_.GatherMasters();\n", "", ["optim_test"]),
    Mutation("rows that data ranks do not divide are dropped", "parallel/partition.h",
             "return batch_rows * data_rank / data_ranks; }", "return batch_rows / data_ranks * data_rank; }",
             ["optim_test"]),
    Mutation("a layer's shared gradient memory is not cleared between micro-batches", "parallel/grad_sync.cc",
             "  model_.kernels().Zero(param.sum);\n}", "}", ["optim_test"]),
    Mutation("a step's losses are added to those of rows of the step before", "optim/trainer.cc",
             "for (const Tensor& tensor : {statistics_.loss, statistics_.z_sum, statistics_.divergence, "
             "statistics_.balance_loss,\n                               statistics_.policy, all_sums_}) {",
             "for (const Tensor& tensor : {all_sums_}) {", ["optim_test"]),
    Mutation("micro-batches of one rank are counted from the batch's first row", "parallel/partition.h",
             "return Begin(data_rank) + micro * micro_rows; }", "return micro * micro_rows; }", ["optim_test"]),
    Mutation("rows that arrive from a rank are one segment", "parallel/exchange_hop.cc",
             "starts[r + 1] - starts[r];", "(r == 0 ? starts[state.member_rows[m]] - starts[0] : 0);", ["parallel_test"]),
    Mutation("weights come home by the slots of copies", "parallel/expert_exchange.cc",
             "= home.weight_slot;", "= home.row_slot;", ["parallel_test"]),
    Mutation("stages of a rank replay the choices of its first one", "parallel/executor.cc",
             "out.choices.experts.Slice(0, first,", "out.choices.experts.Slice(0, 0,", ["optim_test"]),
    Mutation("padding is sent where a replayed choice says", CPU + "router.cc",
             "if (args.positions.As<int32_t>()[t] < 0) {",
             "if (args.positions.As<int32_t>()[t] < 0 && !replayed) {", ["op_test"]),
    Mutation("a later minibatch replays the choices of its own first update", "rl/grpo.cc",
             "update == 0 ? Use::kRecord", "update < config_.grpo.minibatches ? Use::kRecord", ["launch_test"]),
    Mutation("an answer inside of thoughts counts", "rl/reward/answer_extraction.cc",
             "parts = SaidParts(text);", "parts = {text};", ["rl_test"]),
    Mutation("the answer of a response that was cut off counts", "rl/reward/answer_rewards.cc",
             "if (!response.finished) return Wrong(Outcome::kUnfinished);", "", ["rl_test"]),
    Mutation("open and closed intervals are equal", "rl/reward/math_equal.cc",
             "return expected->text == answer->text ? CompareChildren(expected, answer) : Comparison::kDifferent;",
             "return CompareChildren(expected, answer);", ["rl_test"]),
    Mutation("one item of an answer stands for two that are expected", "rl/reward/math_equal.cc",
             "answer.erase(match);", "", ["rl_test"]),
    Mutation("closed forms are equal that agree in twenty digits", "rl/reward/math_numeric.cc",
             'Real("1e-70") * scale', 'Real("1e-20") * scale', ["rl_test"]),
    Mutation("rational functions are compared at one point of each prime", "rl/reward/math_value.cc",
             "for (size_t i = first + 1; i < first + kPoints; ++i) {", "for (size_t i = first + 1; i < first; ++i) {",
             ["rl_test"]),
    Mutation("a comma between brackets separates thousands", "rl/reward/math_token.cc",
             "commas_ == CommaReading::kThousands && depth_ == 0", "commas_ == CommaReading::kThousands", ["rl_test"]),
    Mutation("what a verifier has started outlives it", "rl/reward/child_process.cc",
             "::kill(-pid_, SIGKILL);", "::kill(pid_, SIGKILL);", ["rl_test"]),
    Mutation("answers of one meaning are several votes", "rl/evaluation.cc",
             "if (a == b) return true;", "return a == b;", ["rl_test"]),
    Mutation("a checkpoint is evaluated by its rounded weights", "launch/model_loading.cc",
             "if (!IsCheckpoint(dir) ||", "if (IsCheckpoint(dir) ||", ["launch_test"]),
    Mutation("a replay takes the newest checkpoint", "launch/replay.cc",
             "if (step == version) return path;", "return path;", ["launch_test"]),
    Mutation("a stage starts from the model of the stage above it", "core/config/recipe.cc",
             "return DirOf(value.text);", "return DirOf(recipe_.stages.back().name);", ["launch_test"]),
    Mutation("a score is kept though the model has learned on", "launch/stage_scores.cc",
             "steps.empty() ? 0 : steps.front().first", "steps.empty() ? 0 : 1", ["launch_test"]),
    Mutation("heads keep the panels of older weights", "core/model/param.cc",
             "if (rows.heads == 0) return;", "if (rows.heads >= 0) return;", ["core_model_test"]),
    Mutation("samples of a cache of latents count as the trainer's own", "rl/grpo.cc",
             "if (fresh ? !latent :", "if (fresh ? true :", ["launch_test"]),
    Mutation("a replay compares ids alone", "launch/replay.cc",
             "before.id == now.id && SameBits(before.log_prob, now.log_prob)", "before.id == now.id", ["launch_test"]),
]


def run(command, cwd, timeout=900):
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=timeout)


def first_failure(output):
    match = re.search(r"\[  FAILED  \] ([\w./]+)", output)
    return match.group(1) if match else output.strip().splitlines()[-1][:80] if output.strip() else "crash"


def caught_by(mutation, tree, build, jobs):
    """The name of the first failing test, or None if the breakage survives."""
    path = tree / mutation.file
    original = path.read_text()
    if original.count(mutation.old) != 1:
        sys.exit(f"{mutation.file}: the text of '{mutation.what}' occurs {original.count(mutation.old)} times, want 1")
    path.write_text(original.replace(mutation.old, mutation.new))
    try:
        targets = ["conclave"] + [p for p in mutation.programs if p != "no_libm"]
        made = run(["ninja", "-C", str(build), f"-j{jobs}", *targets], tree)
        if made.returncode != 0:
            sys.exit(f"'{mutation.what}' does not compile:\n{made.stdout[-2000:]}")
        for program in mutation.programs:
            if program == "no_libm":
                result = run([sys.executable, "tests/no_libm_test.py", str(build)], tree)
            else:
                result = run([str(build / "tests" / program), "--gtest_brief=1", "--gtest_fail_fast"], tree)
            if result.returncode != 0:
                return f"{program}: {first_failure(result.stdout)}"
        return None
    finally:
        path.write_text(original)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build", default="/tmp/conclave_mutations", help="folder for the copy and its build")
    parser.add_argument("--only", default="", help="only breakages whose text or file contains this")
    parser.add_argument("--jobs", default="2")
    args = parser.parse_args()
    tree = pathlib.Path(args.build) / "tree"
    build = pathlib.Path(args.build) / "build"
    shutil.rmtree(tree, ignore_errors=True)
    shutil.copytree(ROOT, tree, ignore=shutil.ignore_patterns("build", "runs", ".git"),
                    copy_function=shutil.copy)  # new times: an old build must not look up to date
    configured = run(["cmake", "-S", str(tree), "-B", str(build), "-G", "Ninja", "-DCMAKE_BUILD_TYPE=Release",
                      "-DCMAKE_CXX_FLAGS_RELEASE=-O1"], tree)
    if configured.returncode != 0:
        sys.exit(configured.stderr)
    made = run(["ninja", "-C", str(build), f"-j{args.jobs}"], tree, 3600)
    if made.returncode != 0:
        sys.exit(made.stdout[-3000:])
    survivors = 0
    print("| breakage | file | caught by |\n|---|---|---|", flush=True)
    for mutation in MUTATIONS:
        if args.only not in mutation.what and args.only not in mutation.file:
            continue
        caught = caught_by(mutation, tree, build, args.jobs)
        survivors += caught is None
        print(f"| {mutation.what} | `{mutation.file}` | {caught or '**nothing: it survives**'} |", flush=True)
    sys.exit(1 if survivors else 0)


if __name__ == "__main__":
    main()
