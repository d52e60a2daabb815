// Between the wire (protobuf) and domain records. The only place that knows both.
// Everything that comes from the wire is checked: InvalidArgument names the field.
#pragma once

#include <google/protobuf/struct.pb.h>

#include <string>

#include "absl/status/statusor.h"
#include "common/rollout.h"
#include "model/weights/manifest.h"
#include "services/runner.h"
#include "tramontane/v1/common.pb.h"
#include "tramontane/v1/verifier.pb.h"

namespace tramontane {

v1::FinishReason ToProto(FinishReason reason);
FinishReason FromProto(v1::FinishReason reason);

v1::SamplingParams ToProto(const SamplingParams& sampling);
absl::StatusOr<SamplingParams> FromProto(const v1::SamplingParams& sampling);

v1::Rollout ToProto(const Rollout& rollout);  // the verdict stays behind
// Tokens, log-probabilities and versions must agree in length.
absl::StatusOr<Rollout> FromProto(const v1::Rollout& rollout);

// kInfraFailure travels as BAD_INPUT, SANDBOX_ERROR or VERIFIER_ERROR, by Verdict::fault; all but
// the first are retryable.
v1::VerifyResult ToProto(const Verdict& verdict, const std::string& request_id);
// A reward that is missing, not finite or where none belongs is InvalidArgument, never 0.
// BAD_INPUT, VERIFIER_ERROR, SANDBOX_ERROR, OVERLOADED and CANCELLED become kInfraFailure.
absl::StatusOr<Verdict> FromProto(const v1::VerifyResult& result);

v1::WeightManifest ToProto(const WeightManifest& manifest);
WeightManifest FromProto(const v1::WeightManifest& manifest);  // CheckManifest() is the caller's

v1::ProcessState ToProto(const std::string& process, const ProcessStatus& status);

// JSON objects and google.protobuf.Struct. Numbers become doubles: integers beyond 2^53 are
// rounded. InvalidArgument when `json` is not an object or nests deeper than 64.
absl::StatusOr<google::protobuf::Struct> ToStruct(const Json& json);
Json FromStruct(const google::protobuf::Struct& proto);

}  // namespace tramontane
