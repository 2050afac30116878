// The thresholds of qa and bench, each with its unit, owner and reason. The code contains no thresholds of its own.
#pragma once

#include <filesystem>
#include <map>
#include <string>

#include "src/core/json.hpp"

namespace slipway {

/// The threshold of one gate.
struct GatePolicy {
  std::string id;
  Json value;  ///< a number; [least, most]; or an object of these by architecture
  std::string unit;
  std::string level;  ///< "fail", "warn", or "off": not applicable; the report still shows the reason
  std::string owner;  ///< the part of the program that is responsible for it
  std::string reason;
  std::map<std::string, std::string>
      without_text;  ///< verdict by ModelBundle::kind when there is no text to measure on

  /// The threshold for an architecture. Errors: Fault::kConfig when the policy has none for it.
  Json threshold(const std::string& architecture) const;
};

/// All gates' policies (docs/qa.md).
class QaPolicy {
 public:
  /// The policy of configs/qa_policy.json at build time.
  static QaPolicy built_in();

  /// The built-in policy, in which the entries of a file replace those with the same id.
  /// Errors   Fault::kConfig naming the file, for a gate that does not exist (and the nearest one that does), a unit or
  ///          kind of value other than the gate's, or a missing owner or reason.
  static QaPolicy load(const std::filesystem::path& path);

  const GatePolicy& at(const std::string& id) const;     ///< Errors: Fault::kBug for a gate that has no entry
  const std::string& source() const { return source_; }  ///< "built in", or the file
  const std::string& sha256() const { return sha256_; }  ///< of all entries, as one line of JSON

 private:
  void check_replacement(const GatePolicy& gate, const std::string& source_name) const;
  void update_sha256();

  std::map<std::string, GatePolicy> gates_;
  std::string source_, sha256_;
};

}  // namespace slipway
