#!/bin/sh
# What has to be there before Pulumi: the bucket of its state, and the key of its stacks' secrets. Safe to run again.
# Usage: sh docs/bootstrap/backend.sh BUCKET [REGION], with an administrator's credentials in the stack's account.
set -eu
bucket="$1"
region="${2:-ap-northeast-1}"
alias=alias/task-migration-stacks
# For every command, whatever the profile says: the key has to be where it is looked for.
export AWS_REGION="$region" AWS_DEFAULT_REGION="$region"

# Names of buckets are world-wide: one of that name that another account lets us into would get the state.
account="$(aws sts get-caller-identity --query Account --output text)"
if ! aws s3api head-bucket --bucket "$bucket" --expected-bucket-owner "$account" >/dev/null 2>&1; then
  if [ "$region" = us-east-1 ]; then # which takes no constraint (Amazon S3, 'CreateBucket')
    aws s3api create-bucket --bucket "$bucket" >/dev/null
  else
    aws s3api create-bucket --bucket "$bucket" --create-bucket-configuration "{\"LocationConstraint\": \"$region\"}" >/dev/null
  fi
fi
# A state that was overwritten or deleted comes back from its versions.
aws s3api put-bucket-versioning --bucket "$bucket" --versioning-configuration '{"Status": "Enabled"}'
aws s3api put-public-access-block --bucket "$bucket" --public-access-block-configuration \
  '{"BlockPublicAcls": true, "IgnorePublicAcls": true, "BlockPublicPolicy": true, "RestrictPublicBuckets": true}'
aws s3api put-bucket-policy --bucket "$bucket" --policy "{\"Version\": \"2012-10-17\", \"Statement\": [{
  \"Sid\": \"TlsOnly\", \"Effect\": \"Deny\", \"Principal\": \"*\", \"Action\": \"s3:*\",
  \"Resource\": [\"arn:aws:s3:::$bucket\", \"arn:aws:s3:::$bucket/*\"],
  \"Condition\": {\"Bool\": {\"aws:SecureTransport\": \"false\"}}}]}"

# Whoever IAM lets use it decrypts the stacks' secrets: a key policy of its own would only repeat the roles' policies.
if ! key="$(aws kms describe-key --key-id "$alias" --query KeyMetadata.Arn --output text 2>&1)"; then
  case "$key" in
    *NotFoundException*) ;;
    *) echo "$key" >&2 && exit 1 ;; # who could not look makes no second key
  esac
  key="$(aws kms create-key --description "Secrets of task-migration's stacks" --query KeyMetadata.Arn --output text)"
  aws kms create-alias --alias-name "$alias" --target-key-id "$key"
fi
aws kms enable-key-rotation --key-id "$key"

echo "PULUMI_BACKEND_URL=s3://$bucket?region=$region"
echo "PULUMI_SECRETS_PROVIDER=awskms:///$key?region=$region"
