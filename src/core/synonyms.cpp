#include "src/core/synonyms.hpp"

#include <algorithm>
#include <cctype>
#include <sstream>

namespace slipway {
namespace {

constexpr char kVocabulary[] =
    "the vocabulary is the tokenizer's, which slipway tokenizer train --tokenizer.vocabulary N makes";
constexpr char kRanks[] = "ranks are started by the launcher: launch/run -n RANKS slipway train ...";
constexpr char kRecords[] =
    "a run always writes RUN/metrics.jsonl and TensorBoard events in RUN/tb, and sends nothing anywhere";
constexpr char kNewRun[] = "a folder for what comes out is named by --run (train) or --out (other commands)";

// clang-format off
constexpr Synonym kSynonyms[] = {
    // How long, how much at once.
    {"max_iters max_steps train_iters num_iterations iterations iters total_steps training_steps num_steps train_steps "
     "trainer.max_steps",
     "train.steps", "", "only train counts steps: slipway train --train.steps N"},
    {"num_train_epochs num_epochs max_epochs", "train.epochs", "", ""},
    {"max_tokens train_tokens num_tokens total_tokens", "train.tokens tokens", "", ""},
    {"batch_size global_batch_size train_batch_size effective_batch_size bs", "train.batch batch",
     "sequences a step over all ranks; train.micro_batch is what a rank computes at once", ""},
    {"total_batch_size batch_tokens", "train.batch", "in sequences, not tokens", ""},
    {"micro_batch_size microbatch_size local_batch_size device_batch_size per_device_train_batch_size "
     "per_gpu_train_batch_size",
     "train.micro_batch", "sequences that a rank computes at once", ""},
    {"gradient_accumulation_steps grad_accumulation_steps grad_accum_steps accumulate_grad_batches accumulation_steps "
     "gradient_accumulation_iters",
     "train.micro_batch", "a rank accumulates over train.batch / train.micro_batch / data ranks", ""},
    {"block_size seq_len seq_length sequence_length seqlen max_seq_length max_seq_len max_length context_length "
     "train_context n_ctx ctx_size encoder_seq_length",
     "train.sequence context", "", ""},
    {"max_position_embeddings original_seq_len", "model.context", "", ""},
    {"max_time max_minutes duration time_limit exit_duration_in_mins", "train.max_minutes", "in minutes", ""},
    {"random_seed manual_seed data_seed training.seed debug.seed", "train.seed seed", "", ""},
    {"gradient_checkpointing activation_checkpointing activation_checkpoint recompute recompute_activations "
     "recompute_granularity recompute_method activation_checkpoint.mode",
     "train.recompute", "none, norms or blocks", ""},
    {"init_from initial_checkpoint_dir checkpoint_dir pretrained pretrained_checkpoint load_model", "train.init",
     "--init for short; --resume RUN continues a run", ""},
    {"resume_from_checkpoint resume_from resume_training resume_run checkpoint.load_step", "resume",
     "the folder of the run", ""},
    {"load", "resume train.init", "the folder of the run; --init begins a new one from its weights", ""},
    {"profile profiling enable_profiling profiling.enable_profiling use_pytorch_profiler", "train.profile",
     "steps to trace", ""},
    // Optimizer and schedule.
    {"lr learning_rate max_lr max_learning_rate peak_learning_rate", "optim.peak_lr", "", ""},
    {"min_lr min_learning_rate final_lr learning_rate_decay_frac min_lr_factor lr_scheduler.min_lr_factor",
     "optim.floor", "a share of optim.peak_lr", ""},
    {"warmup warmup_iters warmup_iterations num_warmup_steps lr_warmup_iters lr_warmup_steps "
     "lr_warmup_samples warmup_ratio lr_warmup_fraction",
     "optim.warmup_steps", "in steps", ""},
    {"lr_decay_iters lr_decay_steps decay_iters lr_decay_samples", "optim.schedule_steps",
     "the step at which the rate has reached its floor", ""},
    {"lr_wsd_decay_iters warmdown_iters cooldown_steps decay_ratio", "optim.decay_steps", "in steps, with wsd", ""},
    {"lr_scheduler_type lr_decay_style lr_scheduler lr_schedule scheduler decay_type lr_wsd_decay_style",
     "optim.schedule", "cosine or wsd", ""},
    {"optimizer optim optimizer_name optim_type optimizer.name", "optim.name", "AdamW or Muon", ""},
    {"adam_beta1", "optim.beta1", "", ""},
    {"adam_beta2", "optim.beta2", "", ""},
    {"adam_eps adam_epsilon epsilon optimizer_eps optimizer.eps", "optim.eps", "", ""},
    {"wd decay weight_decay_rate", "optim.weight_decay", "", ""},
    {"muon_momentum", "optim.momentum", "", ""},
    {"grad_clip clip_grad clip_grad_norm gradient_clip_val gradient_clipping max_norm grad_norm_clip",
     "optim.max_grad_norm", "", ""},
    // The model.
    {"model model_name model_type model_name_or_path model_size preset size flavor model.name model.flavor depth",
     "model.preset", "family and size, such as llama-8m", ""},
    {"n_layer n_layers num_layers num_hidden_layers", "model.layers", "", ""},
    {"n_embd n_embed hidden_size d_model dim hidden_dim embedding_size", "model.width", "", ""},
    {"n_head n_heads num_heads num_attention_heads", "model.heads", "", ""},
    {"n_kv_heads n_kv_head num_kv_heads num_key_value_heads num_query_groups n_query_groups", "model.kv_heads", "", ""},
    {"ffn_hidden_size intermediate_size ffn_dim d_ff mlp_hidden_size", "model.ffn", "", ""},
    {"tie_embeddings tie_word_embeddings tie_weights tied_embeddings weight_tying "
     "untie_embeddings_and_output_weights share_embeddings_and_output_weights",
     "model.tied", "on or off", ""},
    {"rope_theta rotary_base rope_freq_base", "model.rope_base", "", ""},
    {"rms_norm_eps norm_epsilon layer_norm_eps layernorm_epsilon", "model.norm_eps", "", ""},
    {"vocab vocab_size vocabulary_size padded_vocab_size n_vocab", "tokenizer.vocabulary vocabulary", "", kVocabulary},
    {"dropout attention_dropout hidden_dropout", "", "", "there is no dropout; optim.weight_decay is what regularizes"},
    // Data.
    {"dataset dataset_path dataset_name data_dir data_path train_data train_file train_files train_data_path "
     "train_bin input_bin data.train",
     "data.path input", "the folder that slipway data prepare makes; --data for short", ""},
    {"tokenizer_dir tokenizer_path tokenizer_model tokenizer_name tokenizer_file hf_assets_path vocab_file merge_file",
     "tokenizer", "a tokenizer.json", "the tokenizer is the one that slipway data prepare --tokenizer FILE took"},
    {"val_fraction val_split test_split validation_split val_split_fraction split", "data.validation_fraction",
     "a share of the documents", "slipway data prepare --data.validation_fraction X sets the validation split aside"},
    {"text_column content_column json_keys text_key", "data.text_field text", "", ""},
    {"min_freq", "tokenizer.min_frequency", "", ""},
    {"tokenizer_type pre_tokenizer", "tokenizer.pre", "", ""},
    {"files file inputs", "input", "", ""},
    {"num_workers dataloader_num_workers num_proc workers omp_num_threads nthreads n_threads",
     "runtime.threads", "", ""},
    // Numbers, layout, hardware.
    {"dtype torch_dtype precision mixed_precision bf16 fp16 float16 fp32 bfloat16 mixed_precision_param",
     "numerics.compute", "f32, bf16 or auto", ""},
    {"tensor_model_parallel_size tensor_parallel_size tensor_parallel_degree tp tp_size tensor_parallel",
     "mesh.tensor", "", ""},
    {"pipeline_model_parallel_size pipeline_parallel_degree pipeline_parallel_size pp pp_size", "", "",
     "there is no pipeline parallelism; mesh.tensor divides a model over ranks"},
    {"data_parallel_size data_parallel_degree data_parallel_replicate_degree data_parallel_shard_degree dp dp_size "
     "num_gpus gpus n_gpu devices nproc_per_node nproc num_nodes nnodes num_processes world_size ddp fsdp",
     "ranks", "", kRanks},
    {"cpu cuda gpu use_cpu device_type accelerator", "device", "cpu, cuda, cuda:N or auto", ""},
    {"compile torch_compile use_compile training.compile", "", "", "there is nothing to compile; kernels are built in"},
    {"cuda_graphs cuda_graph enable_cuda_graph", "runtime.graphs", "", ""},
    {"cpu_offload optimizer_cpu_offload offload_optimizer", "runtime.offload", "", ""},
    {"timeout distributed_timeout_minutes ddp_timeout init_timeout_seconds comm.init_timeout_seconds",
     "runtime.watchdog_s", "in seconds", ""},
    // What is written and shown.
    {"out_dir output_dir save save_dir run_dir dump_folder run_name job.dump_folder logs_dir log_dir", "run out", "",
     kNewRun},
    {"out_file outfile output output_file output_path o", "out", "", kNewRun},
    {"outtype quantize quantization", "type", "", ""},
    {"save_interval save_steps save_every checkpoint_every checkpoint_interval ckpt_interval save_freq "
     "checkpoint.interval save_checkpoint_every checkpoint_iters",
     "checkpoint.every", "in steps", ""},
    {"save_total_limit keep_latest_k keep_last_n max_checkpoints", "checkpoint.keep", "", ""},
    {"eval_interval eval_steps eval_every eval_freq val_loss_every val_interval val_check_interval validation_freq "
     "eval.interval validation.freq validation.interval",
     "validate.every", "in steps", ""},
    {"eval_iters val_steps val_max_steps eval_batches limit_val_batches val_tokens eval_tokens eval.max_iters "
     "validation.steps",
     "validate.tokens", "in tokens", ""},
    {"log_interval logging_steps log_freq log_every log_every_n_steps print_every logging_interval metrics.log_freq "
     "log_every_steps",
     "log.every", "in steps", ""},
    {"sample_interval sample_freq genmt_every generate_every sample_every_steps", "sample.every", "in steps", ""},
    {"wandb wandb_log wandb_project wandb_run_name wandb_entity report_to use_wandb tensorboard tensorboard_dir "
     "enable_tensorboard enable_wandb logger logger_name log_file",
     "", "", kRecords},
    {"verbose quiet silent disable_tqdm progress_bar", "progress", "", ""},
    {"overwrite overwrite_output_dir force", "", "",
     "nothing is overwritten: name a new folder, or remove the old one"},
    // generate, score, bench.
    {"max_new_tokens n_predict num_tokens_predict max_gen_tokens", "tokens", "", ""},
    {"temp", "temperature", "", ""},
    {"start prompt_text", "prompt", "", ""},
    {"text_file input_file", "text input", "", ""},
    {"ckpt step which", "checkpoint", "", ""},
};
// clang-format on

const Synonym* find_exact(std::string_view word) {
  for (const Synonym& synonym : kSynonyms) {
    const std::vector<std::string> names = split_words(synonym.names);
    if (std::find(names.begin(), names.end(), word) != names.end()) return &synonym;
  }
  return nullptr;
}

}  // namespace

std::span<const Synonym> synonyms() { return kSynonyms; }

std::vector<std::string> split_words(std::string_view list) {
  std::istringstream stream{std::string(list)};
  std::vector<std::string> words;
  for (std::string word; stream >> word;) words.push_back(word);
  return words;
}

const Synonym* find_synonym(std::string_view word) {
  std::string normalized(word);
  for (char& c : normalized) c = c == '-' ? '_' : static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  normalized.erase(0, normalized.find_first_not_of('_'));
  if (const Synonym* synonym = find_exact(normalized)) return synonym;
  const std::size_t dot = normalized.find_last_of('.');
  return dot == std::string::npos ? nullptr : find_exact(normalized.substr(dot + 1));
}

}  // namespace slipway
